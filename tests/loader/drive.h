/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Plays the supervisor to one real moult-loader: the control channel, the rings, the arenas. A
 * failure in here fails the cmocka test that runs.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/chan.h"
#include "shared/memfd.h"
#include "shared/proto.h"

#define DRIVE_GENERATION 7
#define DRIVE_LEASES     128
#define DRIVE_SLOT_BYTES ((size_t)65536)

struct drive {
	struct chan chan;
	pid_t pid;
	uint32_t n_leased;
	struct memfd requests;
	struct memfd answers;
	struct memfd rings;
	struct proto_rings *head;
	struct ring submit;
	struct ring answer;
	struct ring release;
	int loader_bell;
	int supervisor_bell;
	struct chan_message message;
	int store_fd; /* shared weights; -1: none */
	/* The engine hosts: answers come in parts, and with any status. */
	bool is_hosted;
};

/* The folder with moult-loader and the engines. */
extern const char *drive_build_dir;
/* The interpreter that runs the loader; NULL: none. */
extern const char *drive_python;

/* Starts a loader and takes its HELLO. @arena_bytes: of the response arena. */
void drive_start(struct drive *drive, size_t arena_bytes);
/* Starts a loader which sends no HELLO, perhaps. */
void drive_launch(struct drive *drive, size_t arena_bytes);
/* A configuration with @engine, one FP32 input and output x of shape [-1,@width], and
 * nothing special. The caller changes and owns it. */
json_t *drive_config(const char *engine, int width);
/* Sends LOAD; takes @config. @secrets: "NAME=VALUE" texts up to a NULL. When @config has
 * "weights", the model file goes along: with "fill" also a new store for it, with "map" the
 * store that the drive has, in its place. */
void drive_load(struct drive *drive, json_t *config, const char *const *secrets);
/* Returns the payload of the next message, which must be of @type. The caller owns it. */
json_t *drive_expect(struct drive *drive, enum proto_type type);
/* Goes from LOAD up to READY. Takes @config. */
void drive_ready(struct drive *drive, json_t *config);
/* Sends LOAD, and COMMIT if need be, until REFUSED comes. Takes @config; the caller owns the
 * payload. */
json_t *drive_refused(struct drive *drive, json_t *config, const char *const *secrets);
/* Takes the store that @from, whose loader has ended, has filled: "map" means that store now. */
void drive_adopt(struct drive *drive, struct drive *from);
/* Checks that nobody can change the store any more, and that it holds the bytes of @path. */
void drive_check_store(const struct drive *drive, const char *path);
void drive_send(struct drive *drive, enum proto_type type);

/* Puts a request into the slot of @lease. @json_bytes < 0: all of @body is JSON. */
void drive_submit(struct drive *drive, uint64_t lease, const void *body,
                  size_t body_bytes, int json_bytes);
/* Puts any request into the slot of @lease. @fields: "NAME: VALUE" texts up to a NULL. */
void drive_ask(struct drive *drive, uint64_t lease, const char *method,
               const char *target, const char *const *fields, const void *body,
               size_t body_bytes, uint64_t deadline_ns);
void drive_submit_raw(struct drive *drive, const struct proto_submit *submit);
void drive_cancel(struct drive *drive, uint64_t lease);
void drive_flush(struct drive *drive);
/* Waits for the next answer. */
struct proto_answer drive_answer(struct drive *drive);
/* True with an answer when there is one now. */
bool drive_poll(struct drive *drive, struct proto_answer *ret_answer);
const unsigned char *drive_body(const struct drive *drive,
                                const struct proto_answer *answer);
/* Copies the value of a header into @text. */
void drive_header(const struct drive *drive, const struct proto_answer *answer,
                  const char *name, char *text, size_t size);
void drive_release(struct drive *drive, const struct proto_answer *answer);

/* Waits for the process and gives everything back; it must exit with @exit_code. */
void drive_end(struct drive *drive, int exit_code);
/* Ends the loader with QUIT, BYE and exit code 0. */
void drive_quit(struct drive *drive);
