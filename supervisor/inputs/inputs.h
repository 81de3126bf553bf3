/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a generation is built from: a model's section, its secrets and its model file, as
 * they were at one moment. The descriptors stay open for as long as somebody may want to
 * build from them again, so that a rename or a removal on disk takes nothing away.
 *
 * Shared by reference and never changed, but for what a generation learned of them.
 */

#include <sys/stat.h>

#include "supervisor/config/config.h"
#include "supervisor/inputs/secrets.h"

#define INPUTS_SHA256_HEX 65
/* A sentence about a path. */
#define INPUTS_OVERWRITTEN                                                               \
	"the model file '%.250s' was written over in place: what it held before cannot " \
	"be "                                                                            \
	"built again; write model files under another name and rename them into place"

/* Bytes of main memory that a loader has taken for itself (RssAnon), and of its GPU. 0: never
 * measured. Shared weights are not among them. */
struct inputs_footprint {
	bool is_private;     /* its weights among them */
	uint64_t peak_bytes; /* at most, while it served */
	uint64_t gpu_peak_bytes;
	bool is_gpu_shared;     /* its weights are not among them */
	uint64_t loading_bytes; /* at most, while it was loaded beside others */
	uint64_t
		staged_bytes; /* by a lean one at STAGED: all but its copy of the model */
};

struct inputs {
	unsigned int refs;
	struct config *config; /* a reference: keeps the section alive */
	const struct config_model *section;
	struct secrets secrets;
	int weights_fd;   /* the model file, or -1: the section names none */
	struct stat file; /* of weights_fd; all zero without one */
	char weights_sha256[INPUTS_SHA256_HEX]; /* "" until a loader has read it */
	struct inputs_footprint footprint;
	struct err why_private; /* such weights are not shared; "": they are, or may be */
	bool is_private_lasting; /* they cannot be: not to be tried again */
	/* A generation of them was READY, maybe in an earlier run: golden requests are
	 * not asked again, since those on disk may be meant for the next inputs. */
	bool is_proven;
};

enum {
	_INPUTS_E_SUCCESS,
	INPUTS_E_UNSETTLED, /* a secret changed while being read: try again soon */
	INPUTS_E_REFUSED,   /* missing or no file, or secrets without a substitute */
};

/* What lies on disk, whether it is of use or not. */
struct inputs_found {
	struct err secrets_refused; /* why, or "" */
	struct err file_refused;    /* likewise */
	struct err secrets_skipped; /* entries of the directory that are none */
	char secrets_digest[SECRETS_DIGEST_HEX]; /* of their substitute when refused */
	struct stat file;                        /* all zero: none */
};

struct inputs_choice {
	const struct inputs *last; /* may be NULL */
	/* Secrets that change while being read are refused, too. */
	bool is_last_try;
};

/* What @section's directory holds now. Like secrets_read(); without one that the section
 * requires, SECRETS_E_REFUSED. */
int inputs_read_secrets(struct secrets *ret_secrets, const struct config_model *section,
                        struct err *err);
/* Reads what is there now. Secrets that are refused are replaced with those that
 * @choice->last has from the same directory; without them it is INPUTS_E_REFUSED. A
 * machine that is short of descriptors, say, gives -errno: that is worth another try. @err
 * has a sentence on every failure. */
int inputs_new(struct inputs **ret_inputs, struct config *config,
               const struct config_model *section, const struct inputs_choice *choice,
               struct inputs_found *ret_found, struct err *err);
/* The same of things at hand: takes @secrets and @weights_fd (-1: none), on failure too. 0
 * or -errno. */
int inputs_of(struct inputs **ret_inputs, struct config *config,
              const struct config_model *section, struct secrets *secrets,
              int weights_fd);
/* What inputs_equal() needs of @inputs and nothing that could be built from: a new
 * reference, or NULL without memory. */
struct inputs *inputs_identity(const struct inputs *inputs);
struct inputs *inputs_ref(struct inputs *inputs); /* accepts NULL */
void inputs_unref(struct inputs *inputs);         /* likewise */

/* Building from either is the same: no key of class NEW_GENERATION differs, nor a secret,
 * nor the identity of the file. False when either is NULL. */
bool inputs_equal(const struct inputs *a, const struct inputs *b);
/* The model file was written to in place since: they cannot be built from any more. True with
 * a sentence. */
bool inputs_is_overwritten(const struct inputs *inputs, struct err *ret_why);
/* @fresh is of the same file as @old and has another content. */
bool inputs_overwrites(const struct inputs *fresh, const struct inputs *old);
