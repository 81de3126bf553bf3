/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether who asks may have what is asked for. Health is everybody's. The challenges are those
 * of RFC 6750, 3; none of them tells more than what the client has sent.
 */
#include "supervisor/gate/permit.h"

#include <stdio.h>
#include <string.h>

#include "supervisor/gate/hosts.h"

#define REALM "Bearer realm=\"moult\""

/* A token that is good, whatever it may do. */
static char permit_word_all[] = CONFIG_TOKENS_ALL;
static char permit_word_anybody[] = CONFIG_TOKENS_ANYBODY;
static char *const permit_all[] = { permit_word_all };
static char *const permit_anybody[] = { permit_word_anybody };

struct permit_list {
	const char *verb;
	char *const *names;
	size_t n;
};

/* The newest section, whatever serves: who is taken off a list is kept out at once. NULL: there
 * is no model. */
static const struct config_model *permit_section(const struct permit_place *place,
                                                 const char *name)
{
	const struct config_model *section = config_find(place->config, name);
	const struct model *model = model_find(place->models, name);

	return section || !model ? section : model_config(model);
}

/* The tokens that may do what is asked of a model; of one that is not there, every token may
 * be told so. */
static struct permit_list permit_list_of_model(const struct permit_place *place,
                                               const struct http_route *route)
{
	const struct config_model *section = permit_section(place, route->model);
	bool is_infer =
		route->kind == HTTP_ROUTE_INFER || route->kind == HTTP_ROUTE_HOSTED;
	const char *verb = is_infer ? "infer" : "metadata";

	if (!section)
		return (struct permit_list){ verb, permit_all, 1 };
	if (is_infer)
		return (struct permit_list){ verb, section->infer_tokens,
			                     section->n_infer_tokens };
	return (struct permit_list){ verb, section->metadata_tokens,
		                     section->n_metadata_tokens };
}

static struct permit_list permit_list_of(const struct permit_place *place,
                                         const struct http_route *route)
{
	const struct config *config = place->config;

	switch (route->kind) {
	case HTTP_ROUTE_LIVE:
	case HTTP_ROUTE_READY:
		return (struct permit_list){ "health", permit_anybody, 1 };
	case HTTP_ROUTE_METRICS:
	case HTTP_ROUTE_STATS:
	case HTTP_ROUTE_FRONT:
	case HTTP_ROUTE_EVENTS:
		return (struct permit_list){ "metrics", config->metrics_tokens,
			                     config->n_metrics_tokens };
	case HTTP_ROUTE_LOAD:
	case HTTP_ROUTE_UNLOAD:
		return (struct permit_list){ "repository", config->repository_tokens,
			                     config->n_repository_tokens };
	case HTTP_ROUTE_INFER:
	case HTTP_ROUTE_HOSTED:
	case HTTP_ROUTE_MODEL:
	case HTTP_ROUTE_MODEL_READY:
	case HTTP_ROUTE_MODEL_CONFIG:
		return permit_list_of_model(place, route);
	case HTTP_ROUTE_NONE:
	case HTTP_ROUTE_SERVER:
	case HTTP_ROUTE_INDEX:
	case HTTP_ROUTE_REPOSITORY:
	case HTTP_ROUTE_COUNT:
		break;
	}
	return (struct permit_list){ "metadata", permit_all, 1 };
}

static const char *permit_scope(const char *verb)
{
	if (strcmp(verb, "infer") == 0)
		return REALM ", error=\"insufficient_scope\", scope=\"infer\"";
	if (strcmp(verb, "metrics") == 0)
		return REALM ", error=\"insufficient_scope\", scope=\"metrics\"";
	if (strcmp(verb, "repository") == 0)
		return REALM ", error=\"insufficient_scope\", scope=\"repository\"";
	return REALM ", error=\"insufficient_scope\", scope=\"metadata\"";
}

static void permit_refuse(struct permission *permission, const char *verb,
                          struct request_refusal *refusal)
{
	static const struct {
		unsigned int status;
		const char *challenge;
		const char *text;
	} rows[] = {
		[TOKENS_NOBODY] = { 401, REALM,
		                    "a token is needed: send Authorization: Bearer "
		                    "TOKEN" },
		[TOKENS_MALFORMED] = { 400, REALM ", error=\"invalid_request\"",
		                       "Authorization must be there once, as Bearer "
		                       "TOKEN" },
		[TOKENS_UNKNOWN] = { 401, REALM ", error=\"invalid_token\"",
		                     "the token is not, or not any more, known here" },
	};
	if (permission->asker == TOKENS_KNOWN) {
		permission->challenge = permit_scope(verb);
		(void)request_refuse(refusal, 403, 0,
		                     "the token '%s' may not do this: %s is for others",
		                     permission->name, verb);
		return;
	}
	permission->challenge = rows[permission->asker].challenge;
	(void)request_refuse(refusal, rows[permission->asker].status, 0, "%s",
	                     rows[permission->asker].text);
}

/* The first field @name, in lower case, or an empty text. */
static struct proto_text permit_field(const struct http_head *head, const char *name)
{
	for (size_t i = 0; i < head->n_fields; i++)
		if (proto_text_equals(head->fields[i].name, name))
			return head->fields[i].value;
	return proto_text_of("");
}

/* Whether a page of another origin may ask: to read, which browsers do not let it see; and
 * from an application, which has rules of its own. A browser adds no token by itself. */
static bool permit_is_harmless(const struct permission *permission,
                               enum http_route_kind kind, const char *method)
{
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
	       strcmp(method, "OPTIONS") == 0 || kind == HTTP_ROUTE_HOSTED ||
	       permission->asker == TOKENS_KNOWN;
}

bool permit_is_called_right(const struct permission *permission,
                            const struct permit_place *place,
                            const struct http_head *head, const char *method,
                            struct request_refusal *refusal)
{
	const char *list = place->config->allowed_hosts;
	struct proto_text host = permit_field(head, "host");
	struct proto_text origin = permit_field(head, "origin");

	/* Where nobody says it, an application goes by rules of its own here, too. */
	bool is_asked =
		list || (place->is_guarded && head->route.kind != HTTP_ROUTE_HOSTED);

	if (is_asked && host.bytes > 0 && !hosts_allow(list, host)) {
		(void)request_refuse(refusal, 421, 0,
		                     "nobody is called '%.*s' here: allowed_hosts in "
		                     "moult.conf says by which names clients may ask",
		                     (int)(host.bytes < 200 ? host.bytes : 200),
		                     host.data);
		return false;
	}
	if (origin.bytes == 0 ||
	    permit_is_harmless(permission, head->route.kind, method) ||
	    hosts_allow_origin(list, origin, host))
		return true;
	(void)request_refuse(refusal, 403, 0,
	                     "a page of '%.*s' may not ask this: allowed_hosts in "
	                     "moult.conf says whose pages may",
	                     (int)(origin.bytes < 200 ? origin.bytes : 200), origin.data);
	return false;
}

void permit_identify(struct permission *permission, const struct permit_place *place,
                     struct http_head *head)
{
	const struct tokens *tokens = place->gate->tokens;
	const char *name = "";

	if (!tokens)
		return;
	permission->asker = tokens_identify(tokens, head->authorization,
	                                    head->n_authorizations, &name);
	(void)snprintf(permission->name, sizeof(permission->name), "%s", name);
	/* It has served its purpose, and is no application's to keep. */
	if (permission->asker == TOKENS_KNOWN)
		http_head_drop(head, "authorization");
}

/* Whether this listener is the one for it. */
static bool permit_is_here(const struct permit_place *place, enum http_route_kind kind,
                           struct request_refusal *refusal)
{
	bool is_here = true;

	switch (kind) {
	case HTTP_ROUTE_METRICS:
	case HTTP_ROUTE_STATS:
	case HTTP_ROUTE_INDEX:
	case HTTP_ROUTE_LOAD:
	case HTTP_ROUTE_UNLOAD:
	case HTTP_ROUTE_REPOSITORY:
		is_here = !place->has_admin;
		break;
	case HTTP_ROUTE_INFER:
	case HTTP_ROUTE_HOSTED:
		is_here = !place->is_admin;
		break;
	case HTTP_ROUTE_NONE:
	case HTTP_ROUTE_SERVER:
	case HTTP_ROUTE_FRONT:
	case HTTP_ROUTE_EVENTS:
	case HTTP_ROUTE_LIVE:
	case HTTP_ROUTE_READY:
	case HTTP_ROUTE_MODEL:
	case HTTP_ROUTE_MODEL_READY:
	case HTTP_ROUTE_MODEL_CONFIG:
	case HTTP_ROUTE_COUNT:
		break;
	}
	if (!is_here)
		(void)request_refuse(refusal, 404, 0, "this is served at %s",
		                     place->is_admin ? "another address (listen)"
		                                     : "another address (admin_listen)");
	return is_here;
}

bool permit_allows(struct permission *permission, const struct permit_place *place,
                   const struct http_route *route, struct request_refusal *refusal)
{
	struct permit_list list;

	if (!permit_is_here(place, route->kind, refusal))
		return false;
	if (!place->gate->tokens)
		return true;
	list = permit_list_of(place, route);
	if (tokens_allow(permission->asker, permission->name, list.names, list.n))
		return true;
	permit_refuse(permission, list.verb, refusal);
	return false;
}

bool permit_is_operator(const struct permit_place *place, const struct http_head *head,
                        enum http_route_kind kind, struct request_refusal *refusal)
{
	static const char *const marks[] = { "forwarded", "x-forwarded-for", "via" };
	const struct config *config = place->config;
	bool is_near = place->is_local && config->n_repository_tokens == 0;

	if (place->gate->tokens || (kind != HTTP_ROUTE_LOAD && kind != HTTP_ROUTE_UNLOAD))
		return true;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		is_near = is_near && permit_field(head, marks[i]).bytes == 0;
	if (is_near || tokens_allow(TOKENS_NOBODY, "", config->repository_tokens,
	                            config->n_repository_tokens))
		return true;
	(void)request_refuse(refusal, 403, 0,
	                     "models are loaded and unloaded from this machine alone, "
	                     "and through no proxy: repository_tokens in moult.conf "
	                     "says who else may");
	return false;
}

struct model *permit_model(const struct permit_place *place,
                           const struct http_route *route,
                           struct request_refusal *refusal)
{
	struct model *model = model_find(place->models, route->model);

	if (!model) {
		(void)request_refuse(refusal, 404, 0,
		                     config_find(place->config, route->model)
		                             ? "model '%s' is not loaded"
		                             : "there is no model '%s'",
		                     route->model);
		return NULL;
	}
	if (route->version[0] &&
	    strcmp(route->version, model_config(model)->version) != 0) {
		(void)request_refuse(refusal, 404, 0,
		                     "model '%s' has version '%s', not '%s'",
		                     route->model, model_config(model)->version,
		                     route->version);
		return NULL;
	}
	return model;
}

bool permit_shows(const struct permission *permission, const struct permit_place *place,
                  const char *name)
{
	const struct config_model *section = permit_section(place, name);

	return !place->gate->tokens || !section ||
	       tokens_allow(permission->asker, permission->name, section->metadata_tokens,
	                    section->n_metadata_tokens);
}

void permit_forget(struct permission *permission)
{
	*permission = (struct permission){ .challenge = NULL };
}
