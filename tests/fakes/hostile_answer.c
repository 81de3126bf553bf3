/* SPDX-License-Identifier: Apache-2.0 */

/* Answers in parts, right or wrong. */

#include "hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/clock.h"

/* The head of an answer precedes the body of its first part. */
#define ANSWER_HEAD_BYTES ((size_t)512)
#define ANSWER_INDEX_BITS 16
/* So many empty parts may be under way at once, so that other answers get theirs. */
#define ANSWER_EMPTY_MAX 16

static size_t answer_json_bytes(const struct hostile *hostile,
                                const struct proto_submit *submit)
{
	const unsigned char *memory = hostile->requests.base;
	struct proto_field field;
	struct proto_head head;
	char text[24];

	if (proto_head_read(&head, memory + submit->head_offset, submit->head_bytes) < 0)
		_exit(PROTO_EXIT_INTERNAL);
	while (proto_head_next(&head, &field) == 1) {
		if (!proto_text_equals(field.name, "inference-header-content-length"))
			continue;
		(void)snprintf(text, sizeof(text), "%.*s", (int)field.value.bytes,
		               field.value.data);
		return strtoull(text, NULL, 10);
	}
	return 0;
}

/* Makes the answer of the request's own body; in the binary extension, of its data behind a
 * new header. */
static void answer_compose(const struct hostile *hostile, struct hostile_stream *stream,
                           const struct proto_submit *submit)
{
	const char *body = (const char *)hostile->requests.base + submit->body_offset;
	size_t json_bytes = answer_json_bytes(hostile, submit);
	size_t data_bytes = submit->body_bytes - json_bytes;
	char json[256] = "";
	int n = 0;

	if (json_bytes > submit->body_bytes)
		_exit(PROTO_EXIT_INTERNAL);
	if (json_bytes > 0)
		n = snprintf(
			json, sizeof(json),
			"{\"model_name\":\"%s\",\"parameters\":{\"generation\":%llu},"
			"\"outputs\":[{\"name\":\"x\",\"shape\":[1,%zu],"
			"\"datatype\":\"FP32\",\"parameters\":{"
			"\"binary_data_size\":%zu}}]}",
			hostile->model, (unsigned long long)hostile->generation,
			data_bytes / sizeof(float), data_bytes);
	stream->json_bytes = (size_t)n;
	stream->answer_bytes = (size_t)n + data_bytes;
	stream->answer = malloc(stream->answer_bytes + 1);
	if (!stream->answer)
		_exit(PROTO_EXIT_INTERNAL);
	memcpy(stream->answer, json, (size_t)n);
	memcpy(stream->answer + n, body + json_bytes, data_bytes);
}

/* Reads "!WORDS\n" at the start of a body; the words are echoed with the rest. */
static void answer_read_words(struct hostile_stream *stream)
{
	const unsigned char *end = memchr(stream->answer, '\n', stream->answer_bytes);

	if (end && stream->answer[0] == '!')
		hostile_parse(&stream->faults, (const char *)stream->answer + 1,
		              (size_t)(end - stream->answer) - 1);
}

static uint64_t answer_number(struct hostile *hostile, struct hostile_stream *stream,
                              enum hostile_action action, uint64_t fallback)
{
	const struct hostile_fault *fault =
		hostile_take(hostile, &stream->faults, action);

	return fault ? fault->number : fallback;
}

void hostile_begin(struct hostile *hostile, struct hostile_stream *stream,
                   const struct proto_submit *submit)
{
	const struct hostile_fault *fault;
	uint64_t now_ns = clock_now_ns();

	*stream = (struct hostile_stream){ .is_used = true, .lease = submit->lease };
	answer_compose(hostile, stream, submit);
	answer_read_words(stream);
	hostile_move(hostile, &stream->faults);
	stream->n_parts = answer_number(hostile, stream, HOSTILE_PARTS, 1);
	stream->slow_ns =
		answer_number(hostile, stream, HOSTILE_SLOW, 0) * CLOCK_NS_PER_MS;
	stream->due_ns = now_ns + answer_number(hostile, stream, HOSTILE_DELAY, 0) *
	                                  CLOCK_NS_PER_MS;
	stream->empty_until_ns =
		now_ns +
		answer_number(hostile, stream, HOSTILE_ENDLESS, 0) * CLOCK_NS_PER_MS;
	stream->is_heedless = hostile_take(hostile, &stream->faults, HOSTILE_HEEDLESS);
	fault = hostile_take(hostile, &stream->faults, HOSTILE_WITHHOLD);
	stream->is_withheld = fault;
	hostile->is_alive = hostile->is_alive || (fault && fault->number > 0);
}

void hostile_collect(struct hostile *hostile)
{
	struct proto_release release;

	while (ring_pop(&hostile->release, &release) == 0) {
		uint64_t index = release.token & ((1u << ANSWER_INDEX_BITS) - 1);

		/* Every part is released exactly once, and nothing else. */
		if (index >= hostile->parts_max || release.token == 0 ||
		    hostile->parts[index].token != release.token)
			abort();
		arena_free(&hostile->arena, hostile->parts[index].offset);
		hostile->parts[index].token = 0;
		hostile->n_parts--;
		hostile_progress(hostile);
	}
}

static size_t answer_write_head(const struct hostile_stream *stream,
                                unsigned char *memory, bool is_injecting)
{
	static const struct proto_text nothing = { "", 0 };
	struct proto_field fields[4];
	char length[24];
	size_t n = 0;

	fields[n++] = (struct proto_field){ proto_text_of("content-type"),
		                            proto_text_of("application/octet-stream") };
	(void)snprintf(length, sizeof(length), "%zu", stream->json_bytes);
	if (stream->json_bytes > 0)
		fields[n++] = (struct proto_field){
			proto_text_of("inference-header-content-length"),
			proto_text_of(length),
		};
	if (is_injecting) {
		fields[n++] = (struct proto_field){
			proto_text_of("x-injected"),
			proto_text_of("a\r\nx-smuggled: b\r\n\r\nHTTP/1.1 200 OK"),
		};
		fields[n++] = (struct proto_field){ proto_text_of("content-length"),
			                            proto_text_of("1") };
	}
	proto_head_write(memory, nothing, nothing, fields, n);
	return proto_head_bytes(nothing, nothing, fields, n);
}

/* Lies about where a part is; the supervisor must believe nothing of it. */
static void answer_misplace(struct hostile *hostile, struct hostile_faults *faults,
                            struct proto_answer *answer)
{
	const uint64_t size = hostile->answers.size_bytes;
	const struct hostile_fault *fault;

	if ((fault = hostile_take(hostile, faults, HOSTILE_OUTSIDE)))
		answer->body_offset = size - answer->body_bytes + fault->number;
	if (hostile_take(hostile, faults, HOSTILE_WRAP))
		answer->body_offset = UINT64_MAX - answer->body_bytes / 2;
	if (hostile_take(hostile, faults, HOSTILE_LONG))
		answer->body_bytes = UINT64_MAX;
	if (hostile_take(hostile, faults, HOSTILE_HEAD_OUTSIDE))
		answer->head_offset = size;
	if ((fault = hostile_take(hostile, faults, HOSTILE_HEAD_LONG)))
		answer->head_bytes = PROTO_HEAD_MAX + (uint32_t)fault->number;
	if (hostile_take(hostile, faults, HOSTILE_HEAD_GARBAGE))
		answer->head_offset = answer->body_offset;
}

/* Lies about the lease, generation, status, flags and rows of a part. */
static void answer_mislabel(struct hostile *hostile, struct hostile_faults *faults,
                            struct proto_answer *answer)
{
	const bool is_first = answer->flags & PROTO_ANSWER_FIRST;
	const struct hostile_fault *fault;

	if ((fault = hostile_take(hostile, faults, HOSTILE_LEASE)))
		answer->lease ^= fault->number;
	if ((fault = hostile_take(hostile, faults, HOSTILE_GENERATION)))
		answer->generation += fault->number;
	if (is_first && (fault = hostile_take(hostile, faults, HOSTILE_STATUS)))
		answer->status = (uint16_t)fault->number;
	if (!is_first && (fault = hostile_take(hostile, faults, HOSTILE_PART_STATUS)))
		answer->status = (uint16_t)fault->number;
	if (is_first && hostile_take(hostile, faults, HOSTILE_NO_FIRST)) {
		answer->flags &= (uint16_t)~PROTO_ANSWER_FIRST;
		answer->status = 0;
		answer->head_bytes = 0;
	}
	if (!is_first && hostile_take(hostile, faults, HOSTILE_FIRST_TWICE)) {
		answer->flags |= PROTO_ANSWER_FIRST;
		answer->status = 200;
	}
	if ((fault = hostile_take(hostile, faults, HOSTILE_FLAGS)))
		answer->flags |= (uint16_t)fault->number;
	if ((fault = hostile_take(hostile, faults, HOSTILE_ROWS)))
		answer->rows = (uint32_t)fault->number;
	if ((answer->flags & PROTO_ANSWER_LAST) &&
	    hostile_take(hostile, faults, HOSTILE_NO_LAST))
		answer->flags &= (uint16_t)~PROTO_ANSWER_LAST;
}

static uint32_t answer_free_part(const struct hostile *hostile)
{
	uint32_t index = 0;

	while (hostile->parts[index].token != 0)
		index++;
	return index;
}

/* Publishes @bytes of the answer from @from on. False: there is no room now. */
static bool answer_publish(struct hostile *hostile, struct hostile_stream *stream,
                           size_t from, size_t bytes, uint16_t flags)
{
	struct proto_answer answer = {
		.lease = stream->lease,
		.generation = hostile->generation,
		.flags = flags,
		.body_bytes = bytes,
	};
	unsigned char *memory = hostile->answers.base;
	uint32_t index;
	size_t offset;

	if (hostile->n_parts == hostile->parts_max ||
	    arena_alloc(&hostile->arena, ANSWER_HEAD_BYTES + bytes, &offset) != 0)
		return false;
	index = answer_free_part(hostile);
	answer.token = ++hostile->sequence << ANSWER_INDEX_BITS | index;
	answer.body_offset = offset + ANSWER_HEAD_BYTES;
	if (!stream->is_started) {
		answer.flags |= PROTO_ANSWER_FIRST;
		answer.status = 200;
		answer.head_offset = offset;
		answer.head_bytes =
			(uint32_t)answer_write_head(stream, memory + offset,
		                                    hostile_take(hostile, &stream->faults,
		                                                 HOSTILE_HEAD_INJECT));
	}
	if (bytes > 0)
		memcpy(memory + answer.body_offset, stream->answer + from, bytes);
	answer_misplace(hostile, &stream->faults, &answer);
	answer_mislabel(hostile, &stream->faults, &answer);
	hostile->parts[index] = (struct hostile_part){ answer.token, offset };
	hostile->n_parts++;
	stream->is_started = true;
	/* After a lie about the ring the push may fail; the supervisor has to notice the lie. */
	(void)ring_push(&hostile->answer, &answer);
	if (hostile_take(hostile, &stream->faults, HOSTILE_AGAIN))
		(void)ring_push(&hostile->answer, &answer);
	if (ring_wants_bell(&hostile->answer))
		hostile_ring_bell(hostile);
	hostile_progress(hostile);
	return true;
}

/* Publishes empty parts, for a while, before the rest. */
static bool answer_publish_empty(struct hostile *hostile, struct hostile_stream *stream)
{
	return hostile->n_parts < ANSWER_EMPTY_MAX &&
	       answer_publish(hostile, stream, 0, 0, 0);
}

void hostile_pump(struct hostile *hostile, struct hostile_stream *stream)
{
	uint64_t now_ns = clock_now_ns();

	while (now_ns < stream->empty_until_ns)
		if (!answer_publish_empty(hostile, stream))
			return;
	while (stream->n_sent < stream->n_parts && now_ns >= stream->due_ns) {
		size_t from = stream->answer_bytes * stream->n_sent / stream->n_parts;
		size_t to = stream->answer_bytes * (stream->n_sent + 1) / stream->n_parts;
		bool is_last = stream->n_sent + 1 == stream->n_parts;

		if (!answer_publish(hostile, stream, from, to - from,
		                    is_last ? PROTO_ANSWER_LAST : 0))
			return;
		stream->n_sent++;
		if (stream->slow_ns > 0)
			stream->due_ns = now_ns + stream->slow_ns;
	}
	if (stream->n_sent < stream->n_parts)
		return;
	free(stream->answer);
	*stream = (struct hostile_stream){ 0 };
}
