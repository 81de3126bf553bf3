/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The recipe of a generation: a model's section, its secrets and its model file, as
 * they were at one moment. The descriptors stay open for as long as somebody may want
 * to build from them again, so that a rename or a removal on disk takes nothing away.
 *
 * Shared by reference and never changed, except for facts that a generation learned of
 * them.
 */

#include <sys/stat.h>

#include "supervisor/config/config.h"
#include "supervisor/inputs/declared.h"
#include "supervisor/inputs/secrets.h"

#define INPUTS_SHA256_HEX 65
/* A sentence; the argument is the path. */
#define INPUTS_OVERWRITTEN                                                               \
	"the model file '%.250s' was written over in place: what it held before cannot " \
	"be "                                                                            \
	"built again; write model files under another name and rename them into place"

/* Bytes of main memory (RssAnon), and of its GPU, that a loader has taken for itself,
 * shared weights not among them. 0: never measured. */
struct inputs_footprint {
	bool is_private;     /* its weights among them */
	uint64_t peak_bytes; /* the most while it served */
	uint64_t gpu_peak_bytes;
	bool is_gpu_shared;     /* its weights are not among them */
	uint64_t loading_bytes; /* the most while it loaded beside others */
	uint64_t staged_bytes;  /* of a lean loader at STAGED: without its copy */
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
	struct err why_private;  /* why its weights are private, or "" */
	bool is_private_lasting; /* sharing can never work: not tried again */
	/* A generation built from this was READY, maybe in an earlier run. Golden
	 * requests are not asked again, since those on disk may be meant for the next
	 * inputs. */
	bool is_proven;
	struct declared told; /* by the last loader that was READY */
};

enum {
	_INPUTS_E_SUCCESS,
	INPUTS_E_UNSETTLED, /* a secret changed while being read: try again soon */
	INPUTS_E_REFUSED,   /* missing or no file, or secrets without a substitute */
};

/* State of the disk, whether it is of use or not. */
struct inputs_found {
	struct err secrets_refused; /* why the secrets are refused, or "" */
	struct err file_refused;    /* why the file is refused, or "" */
	struct err secrets_skipped; /* entries of the directory that are no secrets */
	char secrets_digest[SECRETS_DIGEST_HEX]; /* of their substitute when refused */
	struct stat file;                        /* all zero: none */
};

struct inputs_choice {
	const struct inputs *last; /* may be NULL */
	/* Those of the section, read a moment ago; NULL: its directory is read. */
	const struct secrets *secrets;
	/* True: secrets that change while being read are refused, too. */
	bool is_last_try;
};

/* Reads the secrets in the directory of @section, as secrets_read() does.
 * SECRETS_E_REFUSED, too, when one is missing that the section requires. */
int inputs_read_secrets(struct secrets *ret_secrets, const struct config_model *section,
                        struct err *err);
/* Reads section, secrets and file as they are now. Refused secrets are replaced with
 * those of @choice->last from the same directory; without these the outcome is
 * INPUTS_E_REFUSED. -errno of a machine that is short of descriptors, say, is worth
 * another try. @err has a sentence on every failure. */
int inputs_new(struct inputs **ret_inputs, struct config *config,
               const struct config_model *section, const struct inputs_choice *choice,
               struct inputs_found *ret_found, struct err *err);
/* Makes inputs of things at hand: takes @secrets and @weights_fd (-1: none), on failure
 * too. 0 or -errno. */
int inputs_of(struct inputs **ret_inputs, struct config *config,
              const struct config_model *section, struct secrets *secrets,
              int weights_fd);
/* Looks at a model file, without keeping it, with the outcomes of inputs_new(). */
int inputs_look_at_file(const char *path, struct stat *ret_file, struct err *err);
/* Copies what inputs_equal() needs of @inputs, without anything to build from. A new
 * reference; NULL: out of memory. */
struct inputs *inputs_identity(const struct inputs *inputs);
struct inputs *inputs_ref(struct inputs *inputs); /* accepts NULL */
void inputs_unref(struct inputs *inputs);         /* likewise */

/* What the loading of a generation taught. */
struct inputs_load {
	bool is_private; /* its weights are its own */
	bool is_lean;    /* loading_bytes were held without its copy of the model */
	uint64_t anon_bytes;
	uint64_t loading_bytes;
	const char *weights_sha256;
};

/* inputs/learn.c. A generation of @inputs is about to serve. Figures that are not known yet
 * begin with those of @like, or NULL. */
void inputs_learn_load(struct inputs *inputs, const struct inputs *like,
                       const struct inputs_load *load);
void inputs_learn_hash(struct inputs *inputs, const char *weights_sha256);
/* A generation that served held as much as that at most. */
void inputs_learn_peak(struct inputs *inputs, uint64_t bytes);
/* The same of its GPU: measurements of the other way of having weights are dropped. */
void inputs_learn_gpu_peak(struct inputs *inputs, uint64_t bytes, bool is_shared);
/* Its weights could not be shared; NULL: they could. */
void inputs_learn_private(struct inputs *inputs, const struct err *why, bool is_lasting);
/* Sharing that can never work is tried once more. */
void inputs_learn_anew(struct inputs *inputs);
void inputs_learn_proven(struct inputs *inputs);
void inputs_learn_tensors(struct inputs *inputs, const struct declared *told);
/* The file is the same, although stat(2) says otherwise. */
void inputs_on_file_touched(struct inputs *inputs, const struct stat *before,
                            const struct stat *after);

/* True: building from either is the same. No key of class NEW_GENERATION differs, nor a
 * secret, nor the identity of the file. False when either is NULL. */
bool inputs_equal(const struct inputs *a, const struct inputs *b);
/* True, with a sentence: the model file was written to in place, so that nothing can be
 * built from @inputs any more. */
bool inputs_is_overwritten(const struct inputs *inputs, struct err *ret_why);
/* True: @fresh is of the same file as @old and has another content. */
bool inputs_overwrites(const struct inputs *fresh, const struct inputs *old);
