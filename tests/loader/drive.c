/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/loader/drive.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "shared/clock.h"

/* A generous limit: sanitizers run on a busy machine. */
#define DRIVE_WAIT_MS 60000

extern char **environ;

const char *drive_build_dir;
const char *drive_python;

static void drive_spawn(struct drive *drive, int control_fd)
{
	char path[4096];
	char parent[32];
	char generation[] = "--generation=7";
	char python[4096];
	char engine_dir[4096];
	char *argv[] = { path,       parent, generation, drive_python ? python : NULL,
		         engine_dir, NULL };
	posix_spawn_file_actions_t actions;

	(void)snprintf(path, sizeof(path), "%s/moult-loader", drive_build_dir);
	(void)snprintf(python, sizeof(python), "--python=%s",
	               drive_python ? drive_python : "");
	(void)snprintf(engine_dir, sizeof(engine_dir), "--engine-dir=%s",
	               drive_build_dir);
	(void)snprintf(parent, sizeof(parent), "--parent=%d", (int)getpid());
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	assert_int_equal(posix_spawn_file_actions_adddup2(&actions, control_fd,
	                                                  PROTO_CONTROL_FD),
	                 0);
	assert_int_equal(posix_spawn(&drive->pid, path, &actions, NULL, argv, environ),
	                 0);
	(void)posix_spawn_file_actions_destroy(&actions);
}

void drive_launch(struct drive *drive, size_t arena_bytes)
{
	CLOSE_FD int theirs = -1;

	memset(drive, 0, sizeof(*drive));
	drive->store_fd = -1;
	assert_int_equal(memfd_create_sealed(&drive->requests, "moult-requests",
	                                     DRIVE_SLOT_BYTES * DRIVE_LEASES,
	                                     MEMFD_PEER_READS),
	                 0);
	assert_int_equal(memfd_create_sealed(&drive->answers, "moult-answers",
	                                     arena_bytes, MEMFD_PEER_WRITES),
	                 0);
	assert_int_equal(memfd_create_sealed(&drive->rings, "moult-rings",
	                                     proto_rings_bytes(DRIVE_LEASES),
	                                     MEMFD_PEER_WRITES),
	                 0);
	drive->head = drive->rings.base;
	drive->head->magic = PROTO_MAGIC;
	drive->head->version = PROTO_VERSION;
	drive->head->size_bytes = drive->rings.size_bytes;
	drive->head->generation = DRIVE_GENERATION;
	drive->head->leases = DRIVE_LEASES;
	proto_rings_attach(drive->head, DRIVE_LEASES, &drive->submit, &drive->answer,
	                   &drive->release);
	drive->loader_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	drive->supervisor_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(chan_pair(&drive->chan, &theirs), 0);
	drive_spawn(drive, theirs);
}

void drive_start(struct drive *drive, size_t arena_bytes)
{
	drive_launch(drive, arena_bytes);
	json_decref(drive_expect(drive, PROTO_HELLO));
}

json_t *drive_config(const char *engine, int width)
{
	json_t *config =
		json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, "
	                  "s:i, s:i, s:i, s:i, s:i, "
	                  "s:i, s:[], s:{}, "
	                  "s:[{s:s, s:s, s:[i,i]}], s:[{s:s, s:s, s:[i,i]}]}",
	                  "model", "m", "version", "1", "engine", engine, "engine_dir",
	                  drive_build_dir, "device", "cpu", "threads", 1, "working_bytes",
	                  0, "prefill_bytes", 0, "user", 0, "max_processes", 0,
	                  "max_processes_together", 0, "max_memory", 0, "group_limits", 0,
	                  "max_batch", 1, "max_delay_us", 0, "warmup_runs", 1, "leases",
	                  DRIVE_LEASES, "max_body_bytes", 1 << 20, "required_secrets",
	                  "options", "inputs", "name", "x", "datatype", "FP32", "shape",
	                  -1, width, "outputs", "name", "x", "datatype", "FP32", "shape",
	                  -1, width);

	assert_non_null(config);
	return config;
}

static int drive_make_secrets(const char *const *secrets)
{
	unsigned char memory[4096];
	unsigned char *end = memory;
	int fd;

	for (; secrets && *secrets; secrets++) {
		const char *value = strchr(*secrets, '=') + 1;

		end = proto_secret_write(end,
		                         (struct proto_text){
						 *secrets,
						 (size_t)(value - 1 - *secrets) },
		                         proto_text_of(value));
	}
	fd = memfd_create_constant("moult-secrets", memory, (size_t)(end - memory));
	assert_true(fd >= 0);
	return fd;
}

static int drive_open_store(off_t bytes)
{
	int fd = memfd_create("moult-weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	return fd;
}

/* Returns the model file, which the caller closes. */
static int drive_add_weights(struct drive *drive, const json_t *config, int *fds,
                             size_t *n_fds)
{
	const char *path = json_string_value(json_object_get(config, "path"));
	const char *how = json_string_value(json_object_get(config, "weights"));
	int file = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;

	assert_int_equal(fstat(file, &status), 0);
	if (strcmp(how, "map") == 0) {
		fds[(*n_fds)++] = drive->store_fd;
		return file;
	}
	fds[(*n_fds)++] = file;
	if (strcmp(how, "fill") == 0) {
		drive->store_fd = drive_open_store(status.st_size);
		fds[(*n_fds)++] = drive->store_fd;
	}
	return file;
}

void drive_adopt(struct drive *drive, struct drive *from)
{
	drive->store_fd = take_fd(&from->store_fd);
}

void drive_check_store(const struct drive *drive, const char *path)
{
	CLOSE_FD int file = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	void *a;
	void *b;

	assert_int_equal(fcntl(drive->store_fd, F_GET_SEALS),
	                 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	assert_int_equal(fstat(file, &status), 0);
	a = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0);
	b = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, drive->store_fd,
	         0);
	assert_ptr_not_equal(a, MAP_FAILED);
	assert_ptr_not_equal(b, MAP_FAILED);
	assert_memory_equal(a, b, (size_t)status.st_size);
	(void)munmap(a, (size_t)status.st_size);
	(void)munmap(b, (size_t)status.st_size);
}

void drive_load(struct drive *drive, json_t *config, const char *const *secrets)
{
	FREE char *payload = json_dumps(config, JSON_COMPACT);
	CLOSE_FD int secrets_fd = drive_make_secrets(secrets);
	int fds[PROTO_LOAD_FD_COUNT] = {
		[PROTO_LOAD_FD_REQUESTS] = drive->requests.fd,
		[PROTO_LOAD_FD_ANSWERS] = drive->answers.fd,
		[PROTO_LOAD_FD_RINGS] = drive->rings.fd,
		[PROTO_LOAD_FD_LOADER_BELL] = drive->loader_bell,
		[PROTO_LOAD_FD_SUPERVISOR_BELL] = drive->supervisor_bell,
		[PROTO_LOAD_FD_SECRETS] = secrets_fd,
	};
	size_t n_fds = PROTO_LOAD_FD_WEIGHTS;
	CLOSE_FD int file = -1;

	if (json_object_get(config, "weights"))
		file = drive_add_weights(drive, config, fds, &n_fds);
	json_decref(config);
	assert_int_equal(chan_send(&drive->chan, PROTO_LOAD, DRIVE_GENERATION, payload,
	                           fds, n_fds),
	                 0);
}

static json_t *drive_receive(struct drive *drive)
{
	struct pollfd pollfd = { .fd = drive->chan.fd, .events = POLLIN };
	struct err err = ERR_NULL;
	json_t *payload;
	int r;

	while ((r = chan_recv(&drive->chan, &drive->message, &err)) == CHAN_E_EMPTY)
		if (poll(&pollfd, 1, DRIVE_WAIT_MS) <= 0)
			fail_msg("no message");
	if (r)
		fail_msg("channel: outcome %d %s", r, err.text);
	assert_int_equal(drive->message.header.generation, DRIVE_GENERATION);
	payload = json_loads(drive->message.payload, 0, NULL);
	assert_true(json_is_object(payload));
	return payload;
}

json_t *drive_expect(struct drive *drive, enum proto_type type)
{
	json_t *payload = drive_receive(drive);

	if (drive->message.header.type != type)
		fail_msg("message %u instead of %d: %s", drive->message.header.type,
		         (int)type, drive->message.payload);
	return payload;
}

json_t *drive_refused(struct drive *drive, json_t *config, const char *const *secrets)
{
	drive_load(drive, config, secrets);
	for (;;) {
		json_t *payload = drive_receive(drive);
		unsigned int type = drive->message.header.type;

		if (type == PROTO_REFUSED)
			return payload;
		json_decref(payload);
		assert_int_not_equal(type, PROTO_READY);
		if (type == PROTO_STAGED)
			drive_send(drive, PROTO_COMMIT);
	}
}

void drive_send(struct drive *drive, enum proto_type type)
{
	assert_int_equal(chan_send(&drive->chan, type, DRIVE_GENERATION, NULL, NULL, 0),
	                 0);
}

void drive_ready(struct drive *drive, json_t *config)
{
	drive_load(drive, config, NULL);
	json_decref(drive_expect(drive, PROTO_STAGED));
	drive_send(drive, PROTO_COMMIT);
	json_decref(drive_expect(drive, PROTO_COMMITTED));
	json_decref(drive_expect(drive, PROTO_READY));
}

void drive_submit_raw(struct drive *drive, const struct proto_submit *submit)
{
	assert_int_equal(ring_push(&drive->submit, submit), 0);
}

void drive_submit(struct drive *drive, uint64_t lease, const void *body,
                  size_t body_bytes, int json_bytes)
{
	char length[16];
	const struct proto_field field = {
		proto_text_of("inference-header-content-length"), { length, 0 }
	};
	struct proto_field fields[1] = { field };
	struct proto_text method = proto_text_of("POST");
	struct proto_text target = proto_text_of("/v2/models/m/infer");
	size_t offset = (lease % DRIVE_LEASES) * DRIVE_SLOT_BYTES;
	unsigned char *slot = (unsigned char *)drive->requests.base + offset;
	size_t n_fields = json_bytes < 0 ? 0 : 1;
	struct proto_submit submit = {
		.lease = lease,
		.generation = DRIVE_GENERATION,
		.kind = PROTO_SUBMIT_REQUEST,
		.head_offset = offset,
		.body_offset = offset + 1024,
		.body_bytes = body_bytes,
		.deadline_ns = UINT64_MAX,
		.accepted_ns = clock_now_ns(),
	};

	fields[0].value.bytes =
		(size_t)snprintf(length, sizeof(length), "%d", json_bytes);
	submit.head_bytes = (uint32_t)proto_head_bytes(method, target, fields, n_fields);
	proto_head_write(slot, method, target, fields, n_fields);
	memcpy(slot + 1024, body, body_bytes);
	drive_submit_raw(drive, &submit);
}

void drive_ask(struct drive *drive, uint64_t lease, const char *method,
               const char *target, const char *const *texts, const void *body,
               size_t body_bytes, uint64_t deadline_ns)
{
	struct proto_field fields[PROTO_FIELDS_MAX];
	size_t offset = (lease % DRIVE_LEASES) * DRIVE_SLOT_BYTES;
	unsigned char *slot = (unsigned char *)drive->requests.base + offset;
	struct proto_submit submit = {
		.lease = lease,
		.generation = DRIVE_GENERATION,
		.kind = PROTO_SUBMIT_REQUEST,
		.head_offset = offset,
		.body_bytes = body_bytes,
		.deadline_ns = deadline_ns,
		.accepted_ns = clock_now_ns(),
	};
	size_t n = 0;

	for (; texts && texts[n]; n++) {
		size_t bytes = (size_t)(strstr(texts[n], ": ") - texts[n]);

		fields[n].name = (struct proto_text){ texts[n], bytes };
		fields[n].value = proto_text_of(texts[n] + bytes + 2);
	}
	submit.head_bytes = (uint32_t)proto_head_bytes(proto_text_of(method),
	                                               proto_text_of(target), fields, n);
	submit.body_offset = offset + (submit.head_bytes + 63) / 64 * 64;
	assert_true(submit.body_offset + body_bytes <= offset + DRIVE_SLOT_BYTES);
	proto_head_write(slot, proto_text_of(method), proto_text_of(target), fields, n);
	if (body_bytes > 0)
		memcpy((unsigned char *)drive->requests.base + submit.body_offset, body,
		       body_bytes);
	drive_submit_raw(drive, &submit);
}

void drive_cancel(struct drive *drive, uint64_t lease)
{
	struct proto_submit submit = { .lease = lease,
		                       .generation = DRIVE_GENERATION,
		                       .kind = PROTO_SUBMIT_CANCEL };

	drive_submit_raw(drive, &submit);
}

void drive_flush(struct drive *drive)
{
	const uint64_t one = 1;
	bool is_asleep = ring_wants_bell(&drive->submit);

	is_asleep = ring_wants_bell(&drive->release) || is_asleep;
	if (is_asleep)
		assert_int_equal(write(drive->loader_bell, &one, sizeof(one)),
		                 sizeof(one));
}

bool drive_poll(struct drive *drive, struct proto_answer *ret_answer)
{
	int r = ring_pop(&drive->answer, ret_answer);

	assert_int_not_equal(r, RING_E_CORRUPT);
	if (r)
		return false;
	assert_int_equal(ret_answer->generation, DRIVE_GENERATION);
	assert_true(ret_answer->body_offset + ret_answer->body_bytes <=
	            drive->answers.size_bytes);
	if (drive->is_hosted)
		return true;
	assert_int_equal(ret_answer->flags &
	                         ~(PROTO_ANSWER_FAULT | PROTO_ANSWER_EXECUTION),
	                 PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST);
	/* Status 500 and the flag go together; an answer with 200 may be a fault as well. */
	if (ret_answer->status != 200)
		assert_int_equal((ret_answer->flags & PROTO_ANSWER_FAULT) != 0,
		                 ret_answer->status == 500);
	return true;
}

struct proto_answer drive_answer(struct drive *drive)
{
	struct pollfd pollfd = { .fd = drive->supervisor_bell, .events = POLLIN };
	struct proto_answer answer;
	uint64_t count;

	drive_flush(drive);
	while (!drive_poll(drive, &answer)) {
		if (ring_sleep(&drive->answer) && poll(&pollfd, 1, DRIVE_WAIT_MS) <= 0)
			fail_msg("no answer");
		ring_wake(&drive->answer);
		(void)!read(drive->supervisor_bell, &count, sizeof(count));
	}
	return answer;
}

const unsigned char *drive_body(const struct drive *drive,
                                const struct proto_answer *answer)
{
	return (const unsigned char *)drive->answers.base + answer->body_offset;
}

void drive_header(const struct drive *drive, const struct proto_answer *answer,
                  const char *name, char *text, size_t size)
{
	const unsigned char *memory = drive->answers.base;
	struct proto_head head;
	struct proto_field field;
	int r;

	text[0] = '\0';
	assert_int_equal(proto_head_read(&head, memory + answer->head_offset,
	                                 answer->head_bytes),
	                 0);
	while ((r = proto_head_next(&head, &field)) == 1)
		if (proto_text_equals(field.name, name))
			(void)snprintf(text, size, "%.*s", (int)field.value.bytes,
			               field.value.data);
	assert_int_equal(r, 0);
}

void drive_release(struct drive *drive, const struct proto_answer *answer)
{
	struct proto_release release = { .token = answer->token };

	assert_int_equal(ring_push(&drive->release, &release), 0);
}

void drive_end(struct drive *drive, int exit_code)
{
	int status = 0;

	assert_int_equal(waitpid(drive->pid, &status, 0), drive->pid);
	chan_fini(&drive->chan);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), exit_code);
	memfd_fini(&drive->requests);
	memfd_fini(&drive->answers);
	memfd_fini(&drive->rings);
	close_fd(&drive->loader_bell);
	close_fd(&drive->supervisor_bell);
}

void drive_quit(struct drive *drive)
{
	drive_send(drive, PROTO_QUIT);
	json_decref(drive_expect(drive, PROTO_BYE));
	drive_end(drive, PROTO_EXIT_OK);
}
