/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Everything that moultd and moult-loader must agree on, and nothing else.
 *
 * Control channel: one SOCK_SEQPACKET pair; one datagram is one message: a fixed header
 * and a JSON payload. Only LOAD, COMMIT and COMMITTED carry descriptors. Every message names
 * the generation that it is about, and each state of a generation allows few types. A loader
 * whose message is not allowed, malformed, or of another generation is killed.
 *
 *	supervisor                      loader
 *	    <-- HELLO {"build"}            only a spare, generation 0: it waits for TAKE
 *	    --> TAKE                       the spare becomes the loader of this generation
 *	    <-- HELLO {"build"}            the loader runs and speaks this version
 *	    --> LOAD {model...} + fds      libraries, weights in host memory
 *	    <-- STAGED {"weights_sha256","weights_bytes","private","private_lasts",
 *	               "prefilled_bytes","engine_anon_bytes"}
 *	    --> COMMIT                     weights onto the device
 *	    <-- COMMITTED {"private","private_lasts","placed"} + fds
 *	    <-- READY {"warmup_ms","inputs","outputs",memory} warm-up answered
 *	    ... requests and answers through the rings ...
 *	    --> QUIT                       free everything, then exit 0
 *	    <-- BYE {memory}
 *	    <-- REFUSED {"code","reason"}  at any time before READY; the loader then exits
 *
 * A spare is a loader that was started ahead, for an engine and not for a generation. A spare has
 * opened the engine's library before its first HELLO, and knows nothing else. REFUSED with the
 * code "outdated" says that it is not any more what would be started now.
 *
 * Weights in main memory: LOAD's "weights" says what the loader does with the model file.
 *	private  reads it into memory of its own
 *	fill     copies it into the store, a memfd as large as the file, and seals the store
 *	         against writing; a lean loader does so at COMMIT
 *	map      maps the descriptor that came with LOAD, whose "weights_sha256" may be known
 * An answer with "private" says why the engine has made copies nevertheless; the loader holds
 * the store no more then. With "private_lasts" the next loader of the same file could not share
 * either; without it the next one may.
 *
 * Weights on a device: with LOAD's "placed" the loader places the file's bytes there, in chunks
 * that have a descriptor each.
 *	fill     makes the chunks; COMMITTED brings their descriptors and
 *	         {"placed":{"chunk_bytes","mapped_bytes","canary"}}
 *	map      maps the chunks that came with LOAD, behind the other descriptors, with such
 *	         an object as "chunks"
 *	private  makes a copy for this process alone
 * Where sharing cannot be done the answer's "private" says why. COMMIT may bring chunks of a copy
 * that nobody needs any more, with their sizes, to be written over: the first "kept" chunks of
 * COMMITTED are the first of those, and come without a descriptor. Before COMMIT the loader may
 * take "prefill_bytes" of the device for the last chunks of the file, until its bell rings;
 * STAGED says how many "prefilled_bytes" it took. "engine_anon_bytes" is the loader's private
 * memory with the engine open and no model seen, without the file's bytes.
 *
 * Tensors: LOAD's "inputs" and "outputs" are those of the configuration, and empty where that
 * leaves them to the model. READY's are what the loader serves (shared/tensor_json.h); a loader
 * that hosts routes sends none.
 *
 * Data path: a request lies in the request arena, which the loader can only read; an
 * answer lies in the response arena, which the loader writes and the supervisor
 * distrusts. Three rings carry entries: submit and release from the supervisor, answer to
 * it. PROTO_VERSION must be raised with any change here.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/ring.h"

#define PROTO_MAGIC   UINT32_C(0x544c4f4d) /* "MOLT" */
#define PROTO_VERSION 10

/* The loader's end of the control channel. */
#define PROTO_CONTROL_FD 3

/* The environment variable with the folder of the loader's control group (cgroups(7), version
 * 2). The loader enters it first of all, so that its children are in there, too. Not set: the
 * loader has no control group of its own. */
#define PROTO_CGROUP_VARIABLE "MOULT_CGROUP"

#define PROTO_PAYLOAD_MAX 65536
#define PROTO_CHUNKS_MAX  64 /* descriptors of weights on a device */
#define PROTO_FDS_MAX     (8 + PROTO_CHUNKS_MAX)
#define PROTO_LEASES_MAX  4096

/* An engine is the file PREFIX NAME SUFFIX in the engine directory. */
#define PROTO_ENGINE_PREFIX "moult-engine-"
#define PROTO_ENGINE_SUFFIX ".so"

/* Golden requests of a model: the supervisor records no more than a loader takes. */
#define PROTO_GOLDEN_MAX    256
#define PROTO_GOLDEN_SUFFIX ".json"

enum proto_type {
	PROTO_LOAD = 1,
	PROTO_COMMIT = 2,
	PROTO_QUIT = 3,
	PROTO_TAKE = 4,

	PROTO_HELLO = 16,
	PROTO_STAGED = 17,
	PROTO_COMMITTED = 18,
	PROTO_READY = 19,
	PROTO_REFUSED = 20,
	PROTO_BYE = 21,
};

/* Descriptors of LOAD, in this order. */
enum proto_load_fd {
	PROTO_LOAD_FD_REQUESTS, /* request arena: sealed, read-only */
	PROTO_LOAD_FD_ANSWERS,  /* response arena */
	PROTO_LOAD_FD_RINGS,    /* struct proto_rings and the rings behind it */
	/* eventfd: the loader waits on it. A ring before READY means that nobody serves any
	 * more: the loader has to stand back for nobody. */
	PROTO_LOAD_FD_LOADER_BELL,
	PROTO_LOAD_FD_SUPERVISOR_BELL, /* eventfd: the supervisor waits on it */
	PROTO_LOAD_FD_SECRETS,         /* constant memfd, see proto_secrets_next() */
	PROTO_LOAD_FD_WEIGHTS,         /* the model file or the store that was filled from
	                                  it; absent when there is none */
	PROTO_LOAD_FD_STORE,           /* memfd to be filled; absent when there is none */
	PROTO_LOAD_FD_COUNT,
	PROTO_LOAD_FD_CHUNKS =
		PROTO_LOAD_FD_STORE, /* in the store's place: one or more */
};

struct proto_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint64_t generation;
	uint32_t payload_bytes;
	uint32_t reserved; /* 0 */
};

/* Exit codes of a loader. After CONFIG and MODEL the same input would fail again; after any
 * other one another try is worth it. */
enum proto_exit {
	PROTO_EXIT_OK = 0,
	PROTO_EXIT_CONFIG = 64,   /* configuration or secrets are wrong */
	PROTO_EXIT_MODEL = 65,    /* the model file is bad or not what was declared */
	PROTO_EXIT_DEVICE = 69,   /* the device is not there, or broken */
	PROTO_EXIT_INTERNAL = 70, /* anything else: main memory ran out, say */
	PROTO_EXIT_ORPHAN = 71,   /* the supervisor is gone */
	PROTO_EXIT_MEMORY = 72,   /* the device has too little memory left */
};

/* The start of the rings' memory. The supervisor writes it once, but for the members that the
 * loader writes. */
struct proto_rings {
	uint32_t magic;
	uint32_t version;
	uint64_t size_bytes;
	uint64_t generation;
	uint32_t leases; /* requests that the loader may hold at once: a power of two */
	uint32_t reserved;
	/* The loader raises it whenever work gets done, so that a hang shows. */
	_Alignas(RING_CACHE_LINE) _Atomic uint64_t progress;
	/* The newest lease that the loader has begun to decode; the loader writes it. Leases
	 * are taken in the order of their numbers, which only grow. When the loader dies,
	 * only this lease and older ones without an answer may be to blame. */
	_Atomic uint64_t begun;
	/* Bytes of the model file that the loader has read in STAGING, or brought to its place
	 * in COMMITTING, for an operator who looks on. The loader writes it; nothing is decided
	 * by it. */
	_Atomic uint64_t passed_bytes;
	_Alignas(RING_CACHE_LINE) unsigned char rings[];
};

enum proto_submit_kind {
	PROTO_SUBMIT_REQUEST = 1,
	PROTO_SUBMIT_CANCEL = 2, /* only lease is set: nobody waits for the answer */
};

/* Supervisor to loader. Offsets are into the request arena. */
struct proto_submit {
	uint64_t lease; /* names this attempt at this request; echoed in its answer */
	uint64_t generation;
	uint32_t kind;
	uint32_t head_bytes;
	uint64_t head_offset;
	uint64_t body_offset; /* 64-byte aligned */
	uint64_t body_bytes;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC, or CLOCK_NEVER */
	uint64_t
		accepted_ns; /* CLOCK_MONOTONIC: the timeout parameter counts from here */
};

enum proto_answer_flag {
	PROTO_ANSWER_FIRST = 1, /* carries status and head */
	PROTO_ANSWER_LAST = 2,  /* ends the lease */
	/* With FIRST: the answer is the model's own failure, whatever its status. A failure
	 * that the request or the clock is to blame for goes without. */
	PROTO_ANSWER_FAULT = 4,
	/* Set on the first answer that ends a lease of one execution of the engine, so that
	 * the supervisor counts executions. */
	PROTO_ANSWER_EXECUTION = 8,
	/* With LAST, never with FIRST: the rest of the answer will not come, and the client has
	 * to see that. */
	PROTO_ANSWER_BROKEN = 16,
};

/* Loader to supervisor: one part of an answer. Offsets are into the response arena. */
struct proto_answer {
	uint64_t lease;
	uint64_t generation;
	uint64_t token;  /* comes back in a release once the part has been sent */
	uint16_t status; /* HTTP, with FIRST; else 0 */
	uint16_t flags;
	uint32_t head_bytes; /* with FIRST; else 0 */
	uint64_t head_offset;
	uint64_t body_offset;
	uint64_t body_bytes;
	uint32_t peak_kib; /* memory that the batch took in the engine; 0: not known */
	/* With LAST, if the engine computed; else 0. Rows are elements along the first dim; a
	 * request that cannot share a batch is one row. */
	uint32_t rows;       /* of this request */
	uint32_t batch_rows; /* of all that were computed with it, itself among them */
	uint32_t reserved;   /* 0 */
	/* Durations, likewise. Their sum does not exceed the time since accepted_ns. */
	uint64_t queue_ns;   /* from accepted_ns to its batch's turn, less decode_ns */
	uint64_t decode_ns;  /* reading this request */
	uint64_t gather_ns;  /* laying its batch together */
	uint64_t compute_ns; /* of its batch, inside the engine */
	uint64_t encode_ns;  /* cutting its part out and writing it */
	uint64_t unused[2];  /* 0 */
};

/* Supervisor to loader: the part with this token may be overwritten. Every part is
 * released exactly once. The loader keeps at most proto_parts_max() parts unreleased, so
 * neither the answer nor the release ring can overflow. */
struct proto_release {
	uint64_t token;
};

_Static_assert(sizeof(struct proto_header) == 24, "wire format");
_Static_assert(sizeof(struct proto_submit) == 64, "one cache line");
_Static_assert(sizeof(struct proto_answer) == 128, "two cache lines");
_Static_assert(sizeof(struct proto_release) == 8, "wire format");

static inline uint32_t proto_parts_max(uint32_t leases)
{
	return leases * 4;
}

/* Bytes of memory for the header and the three rings. */
size_t proto_rings_bytes(uint32_t leases);
/* Makes one side's views of the three rings. @base holds proto_rings_bytes(@leases). */
void proto_rings_attach(struct proto_rings *base, uint32_t leases, struct ring *submit,
                        struct ring *answer, struct ring *release);

/*
 * A head: method and target of a request (both empty in an answer) and headers, in an arena:
 * u32 magic, u16 count, u16 method length, u32 target length, then method, target, and per
 * header u16 name length, u32 value length, name, value. Names of a request are lower case, those
 * of an answer as the engine has written them. Reading never trusts a length.
 */
struct proto_text {
	const char *data; /* not terminated */
	size_t bytes;
};

struct proto_field {
	struct proto_text name;
	struct proto_text value;
};

struct proto_head {
	struct proto_text method;
	struct proto_text target; /* path and query, as sent */
	const unsigned char *cursor;
	const unsigned char *end;
	uint32_t n_left;
};

/* Fields of a head. A client sends one fewer, since one may be moultd's own. */
#define PROTO_FIELDS_MAX        65
#define PROTO_CLIENT_FIELDS_MAX 64
/* Moultd's own, of a hosted request: whose connection it came over, "ADDRESS PORT". No client can
 * send a field of such a name. */
#define PROTO_CLIENT_FIELD ":client"
#define PROTO_HEAD_MAX     32768

/* Bytes that proto_head_write() will need. */
size_t proto_head_bytes(struct proto_text method, struct proto_text target,
                        const struct proto_field *fields, size_t n_fields);
/* @memory holds proto_head_bytes(); at most PROTO_FIELDS_MAX fields. */
void proto_head_write(unsigned char *memory, struct proto_text method,
                      struct proto_text target, const struct proto_field *fields,
                      size_t n_fields);
/* 0 or -EBADMSG. The head borrows @memory. */
int proto_head_read(struct proto_head *ret_head, const unsigned char *memory,
                    size_t bytes);
/* 1: a field; 0: the end, and no byte is left over; -EBADMSG. */
int proto_head_next(struct proto_head *head, struct proto_field *ret_field);

static inline struct proto_text proto_text_of(const char *text)
{
	return (struct proto_text){ text, __builtin_strlen(text) };
}

bool proto_text_equals(struct proto_text text, const char *other);

/*
 * Secrets: per secret u32 name length, u32 value length, name, value; no length is trusted.
 * proto_secrets_next() returns 1, 0 at the end, or -EBADMSG, and moves *cursor. Names and
 * values are borrowed.
 */
struct proto_secret {
	struct proto_text name;
	struct proto_text value;
};

size_t proto_secret_bytes(size_t name_bytes, size_t value_bytes);
/* Returns the end of what was written. */
unsigned char *proto_secret_write(unsigned char *memory, struct proto_text name,
                                  struct proto_text value);
int proto_secrets_next(const unsigned char **cursor, const unsigned char *end,
                       struct proto_secret *ret_secret);
