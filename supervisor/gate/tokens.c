/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A directory is read as one snapshot, as models' secrets are (inputs/secrets.h), into a list
 * that takes the place of the one before. Nothing of a token is kept but its SHA-256, and no
 * sentence has a part of one. Where the directory changes while it is read, it is read again
 * soon.
 */
#include "supervisor/gate/tokens.h"

#include <errno.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shared/log.h"
#include "shared/memfd.h"
#include "supervisor/inputs/secrets.h"
#include "supervisor/inputs/watch.h"

#define TOKENS_RETRY_S   0.1
#define TOKENS_BYTES_MAX 4096

struct token {
	char name[CONFIG_NAME_MAX];
	unsigned char hash[SHA256_DIGEST_SIZE];
};

struct tokens_list {
	size_t n;
	struct token all[TOKENS_MAX];
};

struct tokens {
	struct ev_loop *loop;
	char *path;
	struct tokens_list *list;
	struct watch_path *watch;
	ev_timer retry;
	struct err error; /* why what lies on disk is not in use; "": it is */
};

static void tokens_hash(struct proto_text text, unsigned char *hash)
{
	struct sha256_ctx sha256;

	sha256_init(&sha256);
	sha256_update(&sha256, text.bytes, (const unsigned char *)text.data);
	sha256_digest(&sha256, SHA256_DIGEST_SIZE, hash);
}

/* RFC 6750 2.1: b64token. */
static bool tokens_is_token(struct proto_text text)
{
	size_t i = 0;

	while (i < text.bytes && text.data[i] != '\0' &&
	       strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	              "+/",
	              text.data[i]))
		i++;
	if (i == 0)
		return false;
	while (i < text.bytes && text.data[i] == '=')
		i++;
	return i == text.bytes;
}

/* Reading */

static int tokens_check_name(const struct proto_secret *file, struct err *err)
{
	const int bytes = (int)file->name.bytes;

	if (file->name.bytes >= CONFIG_NAME_MAX)
		return err_set(err, -EINVAL,
		               "the name '%.*s' is longer than %d characters", bytes,
		               file->name.data, CONFIG_NAME_MAX - 1);
	if (proto_text_equals(file->name, CONFIG_TOKENS_ALL) ||
	    proto_text_equals(file->name, CONFIG_TOKENS_ANYBODY) ||
	    proto_text_equals(file->name, CONFIG_TOKENS_NOBODY))
		return err_set(err, -EINVAL,
		               "the name '%.*s' means something else in infer_tokens and "
		               "its like: choose another one",
		               bytes, file->name.data);
	return 0;
}

static int tokens_add(struct tokens_list *list, const struct proto_secret *file,
                      struct proto_text token, struct err *err)
{
	const int bytes = (int)file->name.bytes;

	if (token.bytes < TOKENS_BYTES_MIN || token.bytes > TOKENS_BYTES_MAX)
		return err_set(
			err, -EINVAL,
			"%.*s: has a token of %zu characters: %d to %d are allowed, "
			"for instance those of openssl rand -hex 32",
			bytes, file->name.data, token.bytes, TOKENS_BYTES_MIN,
			TOKENS_BYTES_MAX);
	if (!tokens_is_token(token))
		return err_set(
			err, -EINVAL,
			"%.*s: has a token that no header can have: allowed are A-Z "
			"a-z 0-9 - . _ ~ + / and = at the end",
			bytes, file->name.data);
	if (list->n == TOKENS_MAX)
		return err_set(err, -EINVAL, "there are more than %d tokens", TOKENS_MAX);
	memcpy(list->all[list->n].name, file->name.data, file->name.bytes);
	tokens_hash(token, list->all[list->n++].hash);
	return 0;
}

static int tokens_add_file(struct tokens_list *list, const struct proto_secret *file,
                           struct err *err)
{
	const char *end = file->value.data + file->value.bytes;
	size_t n = list->n;
	int r = tokens_check_name(file, err);

	for (const char *line = file->value.data; r == 0 && line < end;) {
		const char *next = memchr(line, '\n', (size_t)(end - line));
		struct proto_text token = { line, (size_t)((next ? next : end) - line) };

		if (token.bytes > 0 && token.data[token.bytes - 1] == '\r')
			token.bytes--;
		if (token.bytes > 0)
			r = tokens_add(list, file, token, err);
		line = next ? next + 1 : end;
	}
	if (r == 0 && list->n == n)
		r = err_set(err, -EINVAL, "%.*s: has no token", (int)file->name.bytes,
		            file->name.data);
	return r;
}

static int tokens_add_all(struct tokens_list *list, const struct secrets *secrets,
                          struct err *err)
{
	struct memfd map = MEMFD_NULL;
	const unsigned char *cursor;
	struct proto_secret file;
	int r = secrets_map(secrets, &map);
	int more = 0;

	if (r < 0)
		return err_set(err, r, "cannot be read: %s", strerror(-r));
	cursor = map.base;
	while (r == 0 && (more = proto_secrets_next(&cursor,
	                                            (const unsigned char *)map.base +
	                                                    map.size_bytes,
	                                            &file)) > 0)
		r = tokens_add_file(list, &file, err);
	memfd_fini(&map);
	return r < 0 ? r : more;
}

/* 0, SECRETS_E_UNSETTLED, or -errno with a sentence. */
static int tokens_read(struct tokens_list **ret_list, const char *path, struct err *err)
{
	struct secrets secrets = SECRETS_NULL;
	struct tokens_list *list;
	struct err why = ERR_NULL;
	int r = secrets_read(&secrets, path, &why);

	if (r == SECRETS_E_UNSETTLED)
		return r;
	if (r == 0 && *secrets.skipped.text)
		(void)err_set(&why, 0, "%.200s: of no use: %.200s", path,
		              secrets.skipped.text);
	if (r != 0 || *secrets.skipped.text) {
		secrets_fini(&secrets);
		return err_set(err, r < 0 ? r : -EINVAL, "tokens: %.400s", why.text);
	}
	list = calloc(1, sizeof(*list));
	r = list ? tokens_add_all(list, &secrets, &why) : -ENOMEM;
	secrets_fini(&secrets);
	if (r < 0) {
		free(list);
		return err_set(err, r, "tokens: %.150s: %.300s", path,
		               *why.text ? why.text : strerror(-r));
	}
	*ret_list = list;
	return 0;
}

static void tokens_use(struct tokens *tokens, struct tokens_list *list, const char *event)
{
	free(tokens->list);
	tokens->list = list;
	tokens->error = (struct err)ERR_NULL;
	log_event(LOG_LEVEL_NOTICE, event, "tokens=%zu path=%s", list->n,
	          LOG_QUOTED(tokens->path));
}

static bool tokens_are_same(const struct tokens_list *a, const struct tokens_list *b)
{
	return a->n == b->n && memcmp(a->all, b->all, a->n * sizeof(a->all[0])) == 0;
}

static void tokens_read_again(struct tokens *tokens)
{
	struct tokens_list *list = NULL;
	struct err why = ERR_NULL;
	int r = tokens_read(&list, tokens->path, &why);

	ev_timer_stop(tokens->loop, &tokens->retry);
	if (r == SECRETS_E_UNSETTLED) {
		ev_timer_set(&tokens->retry, TOKENS_RETRY_S, 0.);
		ev_timer_start(tokens->loop, &tokens->retry);
		return;
	}
	if (r < 0) {
		if (strcmp(tokens->error.text, why.text) != 0)
			log_event(LOG_LEVEL_ERR, "tokens_refused",
			          "reason=%s action=\"keeping those in use\"",
			          LOG_QUOTED(why.text));
		tokens->error = why;
		return;
	}
	if (!*tokens->error.text && tokens_are_same(list, tokens->list))
		free(list);
	else
		tokens_use(tokens, list, "tokens_rotated");
}

static void tokens_on_change(void *context, const char *path)
{
	(void)path;
	tokens_read_again(context);
}

static void tokens_on_retry(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	tokens_read_again(timer->data);
}

/* Names */

static bool tokens_has(const struct tokens_list *list, const char *name)
{
	for (size_t i = 0; i < list->n; i++)
		if (strcmp(list->all[i].name, name) == 0)
			return true;
	return strcmp(name, CONFIG_TOKENS_ALL) == 0 ||
	       strcmp(name, CONFIG_TOKENS_ANYBODY) == 0;
}

/* A name that no token has keeps everybody out. */
static int tokens_check_names(const struct tokens_list *list, const char *key,
                              char *const *names, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (!tokens_has(list, names[i]))
			return err_set(err, -EINVAL,
			               "%s names '%s', and there is no such file in the "
			               "directory of tokens",
			               key, names[i]);
	return 0;
}

static int tokens_check_all(const struct tokens_list *list, const struct config *config,
                            struct err *err)
{
	bool is_nobody = config->n_repository_tokens == 1 &&
	                 strcmp(config->repository_tokens[0], CONFIG_TOKENS_NOBODY) == 0;
	int r = tokens_check_names(list, "metrics_tokens", config->metrics_tokens,
	                           config->n_metrics_tokens, err);

	if (r == 0 && !is_nobody)
		r = tokens_check_names(list, "repository_tokens",
		                       config->repository_tokens,
		                       config->n_repository_tokens, err);

	for (size_t i = 0; r == 0 && i < config->n_models; i++) {
		const struct config_model *model = config->models[i];

		r = tokens_check_names(list, "infer_tokens", model->infer_tokens,
		                       model->n_infer_tokens, err);
		if (r == 0)
			r = tokens_check_names(list, "metadata_tokens",
			                       model->metadata_tokens,
			                       model->n_metadata_tokens, err);
		if (r < 0)
			return err_prefix(err, r, "[model %s]", model->name);
	}
	return r;
}

/* Birth and death */

int tokens_check(const struct config *config, struct err *err)
{
	struct tokens_list *list = NULL;
	int r;

	if (!config->tokens)
		return 0;
	r = tokens_read(&list, config->tokens, err);
	if (r == SECRETS_E_UNSETTLED)
		r = err_set(err, -EAGAIN, "tokens: %s: is being written: try again",
		            config->tokens);
	if (r == 0)
		r = tokens_check_all(list, config, err);
	free(list);
	return r;
}

int tokens_new(struct tokens **ret_tokens, struct ev_loop *loop,
               const struct config *config, struct err *err)
{
	struct tokens_list *list = NULL;
	struct tokens *tokens;
	int r;

	*ret_tokens = NULL;
	if (!config->tokens)
		return 0;
	r = tokens_read(&list, config->tokens, err);
	if (r < 0)
		return r;
	/* Nobody is let in until it has been read. */
	if (!list)
		list = calloc(1, sizeof(*list));
	tokens = calloc(1, sizeof(*tokens));
	if (tokens)
		tokens->path = strdup(config->tokens);
	if (!list || !tokens || !tokens->path) {
		free(list);
		tokens_free(tokens);
		return err_set(err, -ENOMEM, "out of memory");
	}
	tokens->loop = loop;
	ev_timer_init(&tokens->retry, tokens_on_retry, 0., 0.);
	tokens->retry.data = tokens;
	tokens_use(tokens, list, "tokens");
	*ret_tokens = tokens;
	return 0;
}

int tokens_watch(struct tokens *tokens, struct watch *watch)
{
	return watch_add(watch, tokens->path, tokens_on_change, tokens, &tokens->watch);
}

void tokens_free(struct tokens *tokens)
{
	if (!tokens)
		return;
	if (tokens->watch)
		watch_remove(tokens->watch);
	if (tokens->loop)
		ev_timer_stop(tokens->loop, &tokens->retry);
	free(tokens->list);
	free(tokens->path);
	free(tokens);
}

/* Asking */

/* The name of the token with @hash, or "". Looks at all of them, whatever it finds. */
static const char *tokens_find(const struct tokens *tokens, const unsigned char *hash)
{
	const struct tokens_list *list = tokens->list;
	const char *name = "";

	for (size_t i = 0; i < list->n; i++)
		if (memeql_sec(list->all[i].hash, hash, SHA256_DIGEST_SIZE))
			name = list->all[i].name;
	return name;
}

enum tokens_asker tokens_identify(const struct tokens *tokens, struct proto_text value,
                                  size_t n_values, const char **ret_name)
{
	static const char scheme[] = "bearer";
	unsigned char hash[SHA256_DIGEST_SIZE];

	*ret_name = "";
	if (n_values == 0)
		return TOKENS_NOBODY;
	if (n_values > 1 || value.bytes < sizeof(scheme) ||
	    strncasecmp(value.data, scheme, sizeof(scheme) - 1) != 0 ||
	    value.data[sizeof(scheme) - 1] != ' ')
		return TOKENS_MALFORMED;
	value.data += sizeof(scheme) - 1;
	value.bytes -= sizeof(scheme) - 1;
	while (value.bytes > 0 && *value.data == ' ') {
		value.data++;
		value.bytes--;
	}
	if (!tokens_is_token(value))
		return TOKENS_MALFORMED;
	tokens_hash(value, hash);
	*ret_name = tokens_find(tokens, hash);
	return **ret_name ? TOKENS_KNOWN : TOKENS_UNKNOWN;
}

bool tokens_allow(enum tokens_asker asker, const char *name, char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], CONFIG_TOKENS_ANYBODY) == 0 ||
		    (asker == TOKENS_KNOWN && (strcmp(list[i], CONFIG_TOKENS_ALL) == 0 ||
		                               strcmp(list[i], name) == 0)))
			return true;
	return false;
}

/* What it tells */

size_t tokens_count(const struct tokens *tokens)
{
	return tokens->list->n;
}

bool tokens_is_stale(const struct tokens *tokens)
{
	return *tokens->error.text;
}

json_t *tokens_to_json(const struct tokens *tokens)
{
	json_t *names;

	if (!tokens)
		return json_null();
	names = json_array();
	for (size_t i = 0; i < tokens->list->n; i++)
		if (i == 0 ||
		    strcmp(tokens->list->all[i].name, tokens->list->all[i - 1].name) != 0)
			(void)json_array_append_new(
				names, json_string(tokens->list->all[i].name));
	return json_pack("{s:s,s:i,s:o,s:s?}", "path", tokens->path, "count",
	                 (int)tokens->list->n, "names", names, "error",
	                 *tokens->error.text ? tokens->error.text : NULL);
}
