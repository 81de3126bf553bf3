/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Bearer tokens of clients (RFC 6750): a file each, named as the token is called, in a directory
 * that is watched as secrets are. Tokens are kept and compared as hashes, all of them each
 * time, so that the time tells nothing. A file has one token in each line, so that an old and
 * a new one are good together. What is of no use changes nothing, and is told loudly.
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"
#include "shared/proto.h"
#include "supervisor/config/config.h"

/* Shorter ones could be guessed. */
#define TOKENS_BYTES_MIN 16
#define TOKENS_MAX       256

struct tokens;
struct watch;

/* What a request says about who asks. */
enum tokens_asker {
	TOKENS_NOBODY,    /* nothing */
	TOKENS_MALFORMED, /* no bearer token, or more than one */
	TOKENS_UNKNOWN,   /* a token that is not among these */
	TOKENS_KNOWN,
};

/* Whether the tokens that @config names are of use now. 0, also where it names none, or -errno
 * with a sentence. */
int tokens_check(const struct config *config, struct err *err);

/* Reads the directory; NULL in *ret_tokens: @config names none. 0 or -errno with a
 * sentence. */
int tokens_new(struct tokens **ret_tokens, struct ev_loop *loop,
               const struct config *config, struct err *err);
/* Has the directory watched; tokens_free() ends that. 0 or -errno. */
int tokens_watch(struct tokens *tokens, struct watch *watch);
void tokens_free(struct tokens *tokens); /* accepts NULL */

/* Reads the value of Authorization, of which the request has @n_values. *ret_name: of the
 * token, borrowed until the next round of the loop; "" where it is not known. */
enum tokens_asker tokens_identify(const struct tokens *tokens, struct proto_text value,
                                  size_t n_values, const char **ret_name);
/* Whether who asks may do what needs a token among @list (of a key such as infer_tokens). */
bool tokens_allow(enum tokens_asker asker, const char *name, char *const *list, size_t n);

size_t tokens_count(const struct tokens *tokens);
bool tokens_is_stale(const struct tokens *tokens);
/* A new reference; null for NULL. Names alone. */
json_t *tokens_to_json(const struct tokens *tokens);
