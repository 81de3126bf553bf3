/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/load/secrets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/proto.h"

static int secrets_add(struct secrets *secrets, const struct proto_secret *secret)
{
	struct engine_secret *rows;
	char *name;

	rows = reallocarray(secrets->rows, secrets->n_rows + 1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	secrets->rows = rows;
	name = strndup(secret->name.data, secret->name.bytes);
	if (!name)
		return -ENOMEM;
	rows[secrets->n_rows++] = (struct engine_secret){
		.name = name,
		.value = secret->value.data,
		.value_bytes = secret->value.bytes,
	};
	return 0;
}

int secrets_init(struct secrets *secrets, int fd, struct err *err)
{
	const unsigned char *cursor;
	const unsigned char *end;
	struct proto_secret secret;
	int r;

	*secrets = (struct secrets)SECRETS_NULL;
	r = memfd_map(&secrets->memory, fd, false);
	if (r < 0) {
		close_fd(&fd);
		return err_set(err, r, "the secrets' memory cannot be used: %s",
		               strerror(-r));
	}
	cursor = secrets->memory.base;
	end = cursor + secrets->memory.size_bytes;
	while ((r = proto_secrets_next(&cursor, end, &secret)) == 1) {
		r = secrets_add(secrets, &secret);
		if (r < 0)
			break;
	}
	return r < 0 ? err_set(err, r, "the secrets cannot be read: %s", strerror(-r))
	             : 0;
}

void secrets_fini(struct secrets *secrets)
{
	for (size_t i = 0; i < secrets->n_rows; i++)
		free((void *)(uintptr_t)secrets->rows[i].name);
	free(secrets->rows);
	memfd_fini(&secrets->memory);
	*secrets = (struct secrets)SECRETS_NULL;
}

const struct engine_secret *secrets_find(const struct secrets *secrets, const char *name)
{
	for (size_t i = 0; i < secrets->n_rows; i++)
		if (strcmp(secrets->rows[i].name, name) == 0)
			return &secrets->rows[i];
	return NULL;
}

static int secrets_export_one(const struct secrets *secrets, const char *name,
                              struct err *err)
{
	const struct engine_secret *secret = secrets_find(secrets, name);
	FREE char *value = NULL;

	if (!secret)
		return err_set(
			err, -EINVAL,
			"option.secrets_env names '%s', and there is no such secret",
			name);
	if (secret->value_bytes > 0 && memchr(secret->value, '\0', secret->value_bytes))
		return err_set(err, -EINVAL,
		               "secret '%s' holds a zero byte and cannot be put into the "
		               "environment",
		               name);
	value = strndup(secret->value, secret->value_bytes);
	if (!value || setenv(name, value, 1) < 0)
		return err_set(err, -errno, /* EINVAL: no variable can have that name */
		               "secret '%s' cannot be put into the "
		               "environment: %s",
		               name, strerror(errno));
	explicit_bzero(value, secret->value_bytes);
	return 0;
}

int secrets_export(const struct secrets *secrets, const char *list, struct err *err)
{
	FREE char *names = strdup(list);
	char *rest = NULL;
	int r = 0;

	if (!names)
		return err_set(err, -ENOMEM, "out of memory");
	for (char *name = strtok_r(names, ", ", &rest); name && r == 0;
	     name = strtok_r(NULL, ", ", &rest))
		r = secrets_export_one(secrets, name, err);
	return r;
}
