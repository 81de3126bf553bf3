/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/config/keys.h"
#include "supervisor/config/value.h"

static const char *value_name(const struct config_key *key)
{
	switch (key->type) {
	case CONFIG_TYPE_STRING:
		return "text";
	case CONFIG_TYPE_PATH:
		return "path";
	case CONFIG_TYPE_UINT:
		return "number";
	case CONFIG_TYPE_SIZE:
		return "size";
	case CONFIG_TYPE_DURATION:
		return "duration";
	case CONFIG_TYPE_BOOL:
		return "yes | no";
	case CONFIG_TYPE_ENUM:
		return "word";
	case CONFIG_TYPE_NAMES:
		return "name , ...";
	case CONFIG_TYPE_TENSOR:
		return "name datatype Bq Ar dim , ...";
	case CONFIG_TYPE_OPTION:
		return "text";
	}
	return "value";
}

static const char *class_text(enum config_class class)
{
	switch (class) {
	case CONFIG_LIVE:
		return "A change counts at once.";
	case CONFIG_NEW_GENERATION:
		return "A change makes a new generation.";
	case CONFIG_RESTART:
		return "A change needs a restart of\n.Xr moultd 8 .";
	}
	return "";
}

static void print_default(FILE *out, const struct config_key *key)
{
	if (key->is_required)
		(void)fprintf(out, "This key is required.\n");
	else if (key->fallback)
		(void)fprintf(out, "The default is\n.Cm %s .\n", key->fallback);
	else if (key->fallback_help)
		(void)fprintf(out, "The default is %s\n", key->fallback_help);
	else if (key->type != CONFIG_TYPE_OPTION)
		(void)fprintf(out, "There is no default.\n");
}

static void print_key(FILE *out, const struct config_key *key)
{
	char allowed[200];

	(void)fprintf(out, ".It Ic %s%s No = Ar %s\n%s\n", key->name,
	              key->type == CONFIG_TYPE_OPTION ? " Ns Ar NAME" : "",
	              value_name(key), key->help);
	if (key->type != CONFIG_TYPE_PATH && key->type != CONFIG_TYPE_BOOL)
		(void)fprintf(out, "Allowed is %s.\n",
		              config_value_allowed(key, allowed, sizeof(allowed)));
	print_default(out, key);
	(void)fprintf(out, "%s\n", class_text(key->class));
}

static void print_table(FILE *out, const char *section, const struct config_table *table)
{
	(void)fprintf(out, ".Ss %s\n.Bl -tag -width Ds\n", section);
	for (size_t i = 0; i < table->n_keys; i++)
		print_key(out, &table->keys[i]);
	(void)fprintf(out, ".El\n");
}

int config_print_mdoc(int fd)
{
	CLOSE_FD int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *out;
	int failed;

	if (copy < 0)
		return -errno;
	out = fdopen(copy, "w");
	if (!out)
		return -errno;
	(void)take_fd(&copy); /* owned by the stream */
	print_table(out, "Keys of the supervisor", &config_supervisor_table);
	print_table(out, "Keys of a device", &config_device_table);
	print_table(out, "Keys of a model", &config_model_table);
	failed = ferror(out);
	/* Buffered text is written here, and may fail here. */
	return fclose(out) < 0 || failed ? -EIO : 0;
}
