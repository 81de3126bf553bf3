/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who may have what: by the token that a client sends, by the name that it calls the listener,
 * by the origin of the page that asks. The same for each protocol that is served; a protocol
 * whose heads do not say which model is meant asks in two steps.
 */

#include "supervisor/gate/gate.h"
#include "supervisor/gate/tokens.h"
#include "supervisor/model/model.h"
#include "supervisor/traffic/request.h"
#include "supervisor/wire/head.h"

/* A listener, as it is now; all of it is borrowed. */
struct permit_place {
	const struct gate *gate;
	struct model *const *models; /* NULL behind the last one */
	const struct config *config; /* the newest */
	bool is_admin;               /* a listener for administration */
	bool has_admin; /* this is the endpoint, and there is such a listener */
	bool is_local;  /* nothing but this machine reaches it */
	bool is_guarded; /* a browser on this machine reaches it, and nothing else keeps it out */
};

/* Who asks, and what was said to somebody who may not. */
struct permission {
	enum tokens_asker asker;
	char name[CONFIG_NAME_MAX]; /* of the token; "": none */
	const char *challenge;      /* for WWW-Authenticate; NULL: none */
};

/* Finds out whose token @head has; @head loses a token that is known. */
void permit_identify(struct permission *permission, const struct permit_place *place,
                     struct http_head *head);
/* Whether who was identified may have what @route names at @place. False: with a refusal and
 * a challenge. */
bool permit_allows(struct permission *permission, const struct permit_place *place,
                   const struct http_route *route, struct request_refusal *refusal);
/* Whether who asks for what @head's route names may have it where there are no tokens: models are
 * loaded and unloaded from this machine, and not on behalf of somebody else, unless the
 * configuration says that anybody may. False: with a refusal. */
bool permit_is_operator(const struct permit_place *place, const struct http_head *head,
                        enum http_route_kind kind, struct request_refusal *refusal);
/* Whether the client, who asks with @method, calls @place by a name of its own, and is no page
 * of somebody else's. False: with a refusal. */
bool permit_is_called_right(const struct permission *permission,
                            const struct permit_place *place,
                            const struct http_head *head, const char *method,
                            struct request_refusal *refusal);
/* The model that @route names, in the version that it names. NULL, with a refusal: there is none. */
struct model *permit_model(const struct permit_place *place,
                           const struct http_route *route,
                           struct request_refusal *refusal);
/* Whether the model @name is to be listed for the client. */
bool permit_shows(const struct permission *permission, const struct permit_place *place,
                  const char *name);
/* The request is over, answered or not. */
void permit_forget(struct permission *permission);
