/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Takes section, secrets and model file together, so that a generation is built from
 * one moment and can be built from it again.
 *
 * inputs_new() looks at both, the secrets and the file, even when one is refused:
 * whoever waits for a change has to know the state of the other (struct inputs_found).
 * Refused secrets are replaced with the last good ones of the same directory; a refused
 * file has no substitute. inputs_identity() keeps only what comparing needs, for inputs
 * that failed and are remembered so that they are not tried again.
 */

#include "supervisor/inputs/inputs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/file.h"

/* What is there stands in *ret_file also where it is refused. */
static int inputs_open_path(const char *path, int *ret_fd, struct stat *ret_file,
                            struct err *err)
{
	/* O_NONBLOCK: a FIFO must not hold us up before it is refused. */
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (*ret_fd < 0 || fstat(*ret_fd, ret_file) < 0)
		return err_set(err, err_is_shortage(errno) ? -errno : INPUTS_E_REFUSED,
		               "cannot open model file '%s': %s", path,
		               access_why(&(struct err)ERR_NULL, path, R_OK, errno));
	if (!S_ISREG(ret_file->st_mode) || ret_file->st_size <= 0)
		return err_set(err, INPUTS_E_REFUSED, "model file '%s' is %s", path,
		               S_ISREG(ret_file->st_mode) ? "empty"
		                                          : "not a regular file");
	return 0;
}

static int inputs_open_file(struct inputs *inputs, struct err *err)
{
	const char *path = inputs->section->path;

	return path ? inputs_open_path(path, &inputs->weights_fd, &inputs->file, err) : 0;
}

int inputs_look_at_file(const char *path, struct stat *ret_file, struct err *err)
{
	CLOSE_FD int fd = -1;

	return inputs_open_path(path, &fd, ret_file, err);
}

/* First secret that @section requires and @secrets does not have; NULL: none. */
static const char *inputs_find_missing(const struct config_model *section,
                                       const struct secrets *secrets)
{
	for (size_t i = 0; i < section->n_required_secrets; i++)
		if (!secrets_has(secrets, section->required_secrets[i]))
			return section->required_secrets[i];
	return NULL;
}

int inputs_read_secrets(struct secrets *ret_secrets, const struct config_model *section,
                        struct err *err)
{
	struct secrets secrets = SECRETS_NULL;
	int r = secrets_read(&secrets, section->secrets, err);
	const char *missing = r == 0 ? inputs_find_missing(section, &secrets) : NULL;
	const char *skipped = secrets.skipped.text;

	if (missing)
		r = err_set(err, SECRETS_E_REFUSED,
		            "secret %s/%s is required (required_secrets) and not "
		            "there%s%s",
		            section->secrets, missing, *skipped ? "; skipped: " : "",
		            skipped);
	if (r)
		secrets_fini(&secrets);
	else
		*ret_secrets = secrets;
	return r;
}

static int inputs_copy_secrets(struct inputs *inputs, const struct secrets *secrets,
                               struct err *err)
{
	int r = secrets_copy(&inputs->secrets, secrets);

	return r < 0 ? err_set(err, r, "secrets: %s", strerror(-r)) : 0;
}

/* Secrets of another directory are no substitute; neither are secrets of which a
 * required one is missing. */
static bool inputs_has_last_secrets(const struct inputs *inputs,
                                    const struct inputs *last)
{
	return last && last->secrets.fd >= 0 && last->section->secrets &&
	       inputs->section->secrets &&
	       strcmp(last->section->secrets, inputs->section->secrets) == 0 &&
	       !inputs_find_missing(inputs->section, &last->secrets);
}

static int inputs_choose_secrets(struct inputs *inputs,
                                 const struct inputs_choice *choice, struct err *refused,
                                 struct err *err)
{
	const struct inputs *last = choice->last;
	int r;

	if (choice->secrets)
		return inputs_copy_secrets(inputs, choice->secrets, err);
	r = inputs_read_secrets(&inputs->secrets, inputs->section, err);
	if (r == SECRETS_E_UNSETTLED && !choice->is_last_try)
		return INPUTS_E_UNSETTLED;
	if (r == 0)
		return 0;
	*refused = *err;
	if (!inputs_has_last_secrets(inputs, last))
		return r < 0 ? r : INPUTS_E_REFUSED;
	err->text[0] = '\0';
	return inputs_copy_secrets(inputs, &last->secrets, err);
}

int inputs_new(struct inputs **ret_inputs, struct config *config,
               const struct config_model *section, const struct inputs_choice *choice,
               struct inputs_found *ret_found, struct err *err)
{
	struct inputs *inputs = calloc(1, sizeof(*inputs));
	int r_file = 0;
	int r;

	*ret_found = (struct inputs_found){ 0 };
	if (!inputs)
		return err_set(err, -ENOMEM, "out of memory");
	*inputs = (struct inputs){
		.refs = 1,
		.config = config_ref(config),
		.section = section,
		.secrets = SECRETS_NULL,
		.weights_fd = -1,
	};
	r = inputs_choose_secrets(inputs, choice, &ret_found->secrets_refused, err);
	/* The file is read even after the secrets were refused: a waiter for either has
	 * to know the other. */
	if (r != INPUTS_E_UNSETTLED)
		r_file = inputs_open_file(inputs, &ret_found->file_refused);
	if (r == 0 && r_file) {
		*err = ret_found->file_refused;
		r = r_file;
	}
	memcpy(ret_found->secrets_digest, inputs->secrets.digest,
	       sizeof(ret_found->secrets_digest));
	ret_found->file = inputs->file;
	ret_found->secrets_skipped = inputs->secrets.skipped;
	if (r) {
		inputs_unref(inputs);
		return r;
	}
	*ret_inputs = inputs;
	return 0;
}

int inputs_of(struct inputs **ret_inputs, struct config *config,
              const struct config_model *section, struct secrets *secrets, int weights_fd)
{
	struct inputs *inputs = calloc(1, sizeof(*inputs));

	if (!inputs) {
		secrets_fini(secrets);
		close_fd(&weights_fd);
		return -ENOMEM;
	}
	*inputs = (struct inputs){
		.refs = 1,
		.config = config_ref(config),
		.section = section,
		.secrets = secrets_take(secrets),
		.weights_fd = weights_fd,
	};
	if (weights_fd >= 0 && fstat(weights_fd, &inputs->file) < 0) {
		int r = -errno;

		inputs_unref(inputs);
		return r;
	}
	*ret_inputs = inputs;
	return 0;
}

struct inputs *inputs_identity(const struct inputs *inputs)
{
	struct inputs *identity = malloc(sizeof(*identity));

	if (!identity)
		return NULL;
	*identity = *inputs;
	identity->refs = 1;
	(void)config_ref(identity->config);
	identity->secrets = secrets_identity(&inputs->secrets);
	identity->weights_fd = -1;
	return identity;
}

struct inputs *inputs_ref(struct inputs *inputs)
{
	if (inputs)
		inputs->refs++;
	return inputs;
}

void inputs_unref(struct inputs *inputs)
{
	if (!inputs || --inputs->refs > 0)
		return;
	secrets_fini(&inputs->secrets);
	close_fd(&inputs->weights_fd);
	config_unref(inputs->config);
	free(inputs);
}

void inputs_on_file_touched(struct inputs *inputs, const struct stat *before,
                            const struct stat *after)
{
	if (file_is_same(&inputs->file, before))
		inputs->file = *after;
}

bool inputs_equal(const struct inputs *a, const struct inputs *b)
{
	return a && b && file_is_same(&a->file, &b->file) &&
	       strcmp(a->secrets.digest, b->secrets.digest) == 0 &&
	       !config_model_needs_generation(a->section, b->section);
}

bool inputs_is_overwritten(const struct inputs *inputs, struct err *ret_why)
{
	struct stat now;

	/* The time of change is not compared: a file that is renamed over gets another
	 * one. */
	if (inputs->weights_fd < 0 || fstat(inputs->weights_fd, &now) < 0 ||
	    (now.st_size == inputs->file.st_size &&
	     memcmp(&now.st_mtim, &inputs->file.st_mtim, sizeof(now.st_mtim)) == 0))
		return false;
	(void)err_set(ret_why, 0, INPUTS_OVERWRITTEN, inputs->section->path);
	return true;
}

bool inputs_overwrites(const struct inputs *fresh, const struct inputs *old)
{
	return fresh->file.st_ino == old->file.st_ino &&
	       fresh->file.st_dev == old->file.st_dev && fresh->weights_fd >= 0 &&
	       old->weights_fd >= 0 &&
	       strcmp(fresh->weights_sha256, old->weights_sha256) != 0;
}
