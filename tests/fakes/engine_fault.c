/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An engine that answers with its input, like identity, until a fault fires. Its options:
 *
 *	fault = ACTION-on-PHASE    or ACTION alone, for the phase in the table below
 *	magic, magic_fault         ACTION when the first element of a request is this number
 *	after = N                  a fault of phase infer waits for N inferences
 *	ms = N, until = PATH       how long slow takes (until PATH exists), and leave
 *	bytes = N                  for leak and leave
 *	leave = KIND               the kind of process that is left behind (engine_fault.h)
 *	lines = N                  for print
 *	count = PATH               a byte is appended for each inference
 *	once = PATH                at most once over all processes; PATH is created then
 *	when = PATH                only when PATH exists
 *	secret = NAME, secret_is = TEXT   only when that secret has that value
 *
 * For a model with routes it does what each request says: engine_fault_host.c.
 */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine_fault.h"
#include "loader/engine.h"
#include "shared/clock.h"
#include "shared/engine_options.h"

ENGINE_OPTIONS(fault_options,
               "fault, magic, magic_fault, after, ms, until, bytes, leave, lines, "
               "count, once, when, secret, secret_is");

enum fault_phase {
	FAULT_STAGE,
	FAULT_COMMIT,
	FAULT_WARMUP, /* the first inference */
	FAULT_INFER,
	FAULT_CLOSE,
	FAULT_NEVER,
};

enum fault_action {
	FAULT_NONE,
	FAULT_CRASH,
	FAULT_ABORT,
	FAULT_HANG,
	FAULT_SPIN,
	FAULT_STOP,
	FAULT_EXIT,
	FAULT_SLOW,
	FAULT_LEAK,
	FAULT_LEAK_BESIDE, /* in a thread of its own, as frameworks do */
	FAULT_GARBAGE,     /* overwrites the memory shared with the supervisor */
	FAULT_REFUSE,
	FAULT_REFUSE_MODEL,
	FAULT_REFUSE_DEVICE,
	FAULT_FAIL,
	FAULT_INPUT,
	FAULT_BROKEN,
	FAULT_MEMORY,
	FAULT_BAD_SHAPE,
	FAULT_BAD_TYPE,
	FAULT_BAD_BYTES,
	FAULT_LEAVE, /* another process */
	FAULT_PRINT, /* prints to stdout, then crashes */
};

static const char *const fault_phases[] = {
	[FAULT_STAGE] = "stage", [FAULT_COMMIT] = "commit", [FAULT_WARMUP] = "warmup",
	[FAULT_INFER] = "infer", [FAULT_CLOSE] = "close",
};

static const struct fault_row {
	const char *name;
	enum fault_action action;
	enum fault_phase phase; /* the default phase */
} fault_rows[] = {
	{ "refuse-model", FAULT_REFUSE_MODEL, FAULT_STAGE },
	{ "refuse-device", FAULT_REFUSE_DEVICE, FAULT_COMMIT },
	{ "refuse", FAULT_REFUSE, FAULT_STAGE },
	{ "crash", FAULT_CRASH, FAULT_INFER },
	{ "abort", FAULT_ABORT, FAULT_INFER },
	{ "hang", FAULT_HANG, FAULT_INFER },
	{ "spin", FAULT_SPIN, FAULT_INFER },
	{ "stop", FAULT_STOP, FAULT_INFER },
	{ "exit", FAULT_EXIT, FAULT_STAGE },
	{ "slow", FAULT_SLOW, FAULT_INFER },
	{ "leak-beside", FAULT_LEAK_BESIDE, FAULT_INFER },
	{ "leak", FAULT_LEAK, FAULT_INFER },
	{ "garbage", FAULT_GARBAGE, FAULT_INFER },
	{ "fail", FAULT_FAIL, FAULT_INFER },
	{ "input", FAULT_INPUT, FAULT_INFER },
	{ "broken", FAULT_BROKEN, FAULT_INFER },
	{ "memory", FAULT_MEMORY, FAULT_INFER },
	{ "bad-shape", FAULT_BAD_SHAPE, FAULT_INFER },
	{ "bad-type", FAULT_BAD_TYPE, FAULT_INFER },
	{ "bad-bytes", FAULT_BAD_BYTES, FAULT_INFER },
	{ "print", FAULT_PRINT, FAULT_COMMIT },
	{ "leave", FAULT_LEAVE, FAULT_COMMIT },
};

struct engine {
	const struct engine_config *config;
	enum fault_action action;
	enum fault_phase phase;
	enum fault_action magic_action;
	double magic;
	bool has_magic;
	unsigned long after;
	unsigned long ms;
	unsigned long bytes;
	unsigned long n_infers;
	struct fault_host *host;
	const char *count;
	const char *once;
	const char *when;
	const char *leave;
	const char *until;
};

static const char *fault_option(const struct engine_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_options; i++)
		if (strcmp(config->options[i].name, name) == 0)
			return config->options[i].value;
	return NULL;
}

static unsigned long fault_number(const struct engine_config *config, const char *name,
                                  unsigned long fallback)
{
	const char *text = fault_option(config, name);

	return text ? strtoul(text, NULL, 10) : fallback;
}

static int fault_parse_phase(const char *text, enum fault_phase *phase)
{
	if (*text == '\0')
		return 0;
	text += strncmp(text, "-on-", 4) == 0 ? 4 : 1;
	for (unsigned int i = 0; i < FAULT_NEVER; i++) {
		if (strcmp(text, fault_phases[i]) == 0) {
			*phase = (enum fault_phase)i;
			return 0;
		}
	}
	return -1;
}

static int fault_parse(const char *text, enum fault_action *action,
                       enum fault_phase *phase)
{
	for (size_t i = 0; i < sizeof(fault_rows) / sizeof(fault_rows[0]); i++) {
		const struct fault_row *row = &fault_rows[i];
		size_t bytes = strlen(row->name);

		if (strncmp(text, row->name, bytes) != 0 ||
		    (text[bytes] != '\0' && text[bytes] != '-'))
			continue;
		*action = row->action;
		*phase = row->phase;
		return fault_parse_phase(text + bytes, phase);
	}
	return -1;
}

static bool fault_has_secret(const struct engine_config *config)
{
	const char *name = fault_option(config, "secret");
	const char *value = fault_option(config, "secret_is");

	if (!name || !value)
		return true;
	for (size_t i = 0; i < config->n_secrets; i++)
		if (strcmp(config->secrets[i].name, name) == 0 &&
		    config->secrets[i].value_bytes == strlen(value) &&
		    memcmp(config->secrets[i].value, value, strlen(value)) == 0)
			return true;
	return false;
}

static bool fault_may_fire(const struct engine *engine)
{
	int fd;

	if (!fault_has_secret(engine->config))
		return false;
	if (engine->when && access(engine->when, F_OK) < 0)
		return false;
	if (!engine->once)
		return true;
	fd = open(engine->once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	(void)close(fd);
	return true;
}

/* Does to the rings and the answers what a wild pointer would do. */
static void fault_scribble(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start;
	unsigned long end;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, " rw-s ") && strstr(line, "memfd:moult") &&
		    sscanf(line, "%lx-%lx", &start, &end) == 2)
			memset((void *)start, 0xa5, end - start);
	if (maps)
		(void)fclose(maps);
}

static void fault_sleep(const struct engine *engine, unsigned long ms)
{
	uint64_t end_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS;
	const struct timespec look = { .tv_nsec = 2000000 };
	uint64_t now_ns;

	while ((now_ns = clock_now_ns()) < end_ns) {
		struct timespec rest = {
			.tv_sec = (time_t)((end_ns - now_ns) / CLOCK_NS_PER_SEC),
			.tv_nsec = (long)((end_ns - now_ns) % CLOCK_NS_PER_SEC),
		};

		if (engine->until && access(engine->until, F_OK) == 0)
			return;
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, engine->until ? &look : &rest,
		                      NULL);
	}
}

static void fault_leak(unsigned long bytes)
{
	char *leak = malloc(bytes);

	/* Only touched memory costs anything. */
	if (leak)
		memset(leak, 1, bytes);
	__asm__ volatile("" : : "g"(leak) : "memory");
}

static void *fault_leak_thread(void *bytes)
{
	fault_leak(*(const unsigned long *)bytes);
	return NULL;
}

static void fault_leak_beside(unsigned long bytes)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, fault_leak_thread, &bytes) == 0)
		(void)pthread_join(thread, NULL);
}

static void fault_print(unsigned long lines)
{
	for (unsigned long i = 1; i < lines; i++)
		(void)printf("line %lu\n", i);
	(void)printf("these are the last words\n");
	(void)raise(SIGKILL);
}

/* Does @action. 0: go on, with @outputs possibly spoilt; else the outcome to fail with. */
static int fault_do(const struct engine *engine, enum fault_action action,
                    struct engine_tensor *outputs, struct err *err)
{
	volatile bool is_forever = true;

	switch (action) {
	case FAULT_CRASH:
		(void)raise(SIGSEGV);
		break;
	case FAULT_ABORT:
		abort();
	case FAULT_HANG:
		while (is_forever)
			(void)pause();
		break;
	case FAULT_SPIN:
		while (is_forever)
			;
		break;
	case FAULT_STOP:
		(void)raise(SIGSTOP);
		break;
	case FAULT_EXIT:
		_exit(3);
	case FAULT_SLOW:
		fault_sleep(engine, engine->ms);
		break;
	case FAULT_LEAK:
		fault_leak(engine->bytes);
		break;
	case FAULT_LEAK_BESIDE:
		fault_leak_beside(engine->bytes);
		break;
	case FAULT_GARBAGE:
		fault_scribble();
		break;
	case FAULT_REFUSE:
		return err_set(err, ENGINE_E_CONFIG,
		               "the fault engine was told to refuse");
	case FAULT_REFUSE_MODEL:
		return err_set(err, ENGINE_E_MODEL,
		               "the fault engine dislikes the model");
	case FAULT_REFUSE_DEVICE:
		return err_set(err, ENGINE_E_DEVICE, "the fault engine found no device");
	case FAULT_FAIL:
		return err_set(err, ENGINE_E_FAILED, "the fault engine failed");
	case FAULT_INPUT:
		return err_set(err, ENGINE_E_INPUT,
		               "the fault engine dislikes the input");
	case FAULT_BROKEN:
		return err_set(err, ENGINE_E_BROKEN, "the fault engine is broken");
	case FAULT_MEMORY:
		return err_set(err, ENGINE_E_MEMORY, "the fault engine has no room");
	case FAULT_BAD_SHAPE:
		if (outputs && outputs[0].shape.rank < TENSOR_RANK_MAX)
			outputs[0].shape.dims[outputs[0].shape.rank++] = 7;
		break;
	case FAULT_BAD_TYPE:
		if (outputs)
			outputs[0].dtype = TENSOR_DTYPE_COUNT;
		break;
	case FAULT_BAD_BYTES:
		if (outputs)
			outputs[0].bytes++;
		break;
	case FAULT_PRINT:
		fault_print(fault_number(engine->config, "lines", 1));
		break;
	case FAULT_LEAVE:
		if (!engine->leave || fault_leave(engine->leave, engine->bytes) < 0)
			return err_set(err, ENGINE_E_CONFIG, "leave: no such kind");
		fault_sleep(engine, fault_number(engine->config, "ms", 0));
		break;
	case FAULT_NONE:
		break;
	}
	return 0;
}

static int fault_at(const struct engine *engine, enum fault_phase phase,
                    struct engine_tensor *outputs, struct err *err)
{
	if (engine->phase != phase || engine->action == FAULT_NONE ||
	    !fault_may_fire(engine))
		return 0;
	return fault_do(engine, engine->action, outputs, err);
}

static double fault_first(const struct engine_tensor *tensor)
{
	if (tensor->dtype == TENSOR_DTYPE_FP32 && tensor->bytes >= sizeof(float))
		return (double)*(const float *)tensor->data;
	if (tensor->dtype == TENSOR_DTYPE_FP64 && tensor->bytes >= sizeof(double))
		return *(const double *)tensor->data;
	if (tensor->dtype == TENSOR_DTYPE_INT32 && tensor->bytes >= sizeof(int32_t))
		return *(const int32_t *)tensor->data;
	if (tensor->dtype == TENSOR_DTYPE_INT64 && tensor->bytes >= sizeof(int64_t))
		return (double)*(const int64_t *)tensor->data;
	if (tensor->dtype == TENSOR_DTYPE_UINT8 && tensor->bytes > 0)
		return *(const uint8_t *)tensor->data;
	return 0;
}

/* True when any row of the batch begins with the magic number. */
static bool fault_is_magic(const struct engine *engine,
                           const struct engine_tensor *tensor)
{
	struct engine_tensor row = *tensor;
	size_t n_rows = row.shape.rank > 0 ? (size_t)row.shape.dims[0] : 1;
	size_t row_bytes = n_rows > 0 ? row.bytes / n_rows : 0;

	for (size_t i = 0; engine->has_magic && i < n_rows; i++) {
		row.data = (const char *)tensor->data + i * row_bytes;
		row.bytes = row_bytes;
		if (fault_first(&row) == engine->magic)
			return true;
	}
	return false;
}

static int fault_configure(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	const char *fault = fault_option(config, "fault");
	const char *magic = fault_option(config, "magic");
	const char *magic_fault = fault_option(config, "magic_fault");
	enum fault_phase unused;

	for (size_t i = 0; i < config->n_options; i++)
		if (engine_options_check("fault", fault_options, config->options[i].name,
		                         err))
			return ENGINE_E_CONFIG;
	engine->phase = FAULT_NEVER;
	engine->magic_action = FAULT_CRASH;
	engine->after = fault_number(config, "after", 0);
	engine->ms = fault_number(config, "ms", 1000);
	engine->bytes = fault_number(config, "bytes", 1024 * 1024);
	engine->count = fault_option(config, "count");
	engine->once = fault_option(config, "once");
	engine->when = fault_option(config, "when");
	engine->leave = fault_option(config, "leave");
	engine->until = fault_option(config, "until");
	engine->has_magic = magic;
	engine->magic = magic ? strtod(magic, NULL) : 0;
	if ((fault && fault_parse(fault, &engine->action, &engine->phase) < 0) ||
	    (magic_fault && fault_parse(magic_fault, &engine->magic_action, &unused) < 0))
		return err_set(err, ENGINE_E_CONFIG, "no such fault: '%s' '%s'",
		               fault ? fault : "", magic_fault ? magic_fault : "");
	return 0;
}

static int fault_stage(const struct engine_config *config, struct engine **ret_engine,
                       struct err *err)
{
	int r;

	*ret_engine = calloc(1, sizeof(**ret_engine));
	if (!*ret_engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	(*ret_engine)->config = config;
	r = fault_configure(*ret_engine, err);
	return r ? r : fault_at(*ret_engine, FAULT_STAGE, NULL, err);
}

static int fault_commit(struct engine *engine, struct err *err)
{
	return fault_at(engine, FAULT_COMMIT, NULL, err);
}

static void fault_note_infer(const struct engine *engine)
{
	int fd;

	if (!engine->count)
		return;
	fd = open(engine->count, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, ".", 1) != 1)
		abort();
	(void)close(fd);
}

static int fault_infer(struct engine *engine, const struct engine_tensor *inputs,
                       struct engine_tensor *outputs, struct err *err)
{
	unsigned long number = engine->n_infers++;
	int r = 0;

	fault_note_infer(engine);
	memcpy(outputs, inputs, engine->config->n_outputs * sizeof(*outputs));
	if (fault_is_magic(engine, &inputs[0]) && fault_may_fire(engine))
		r = fault_do(engine, engine->magic_action, outputs, err);
	if (r == 0 && number == 0)
		r = fault_at(engine, FAULT_WARMUP, outputs, err);
	if (r == 0 && number >= engine->after)
		r = fault_at(engine, FAULT_INFER, outputs, err);
	return r;
}

static int fault_begin_host(struct engine *engine, const struct engine_host *host,
                            struct err *err)
{
	int r = fault_at(engine, FAULT_WARMUP, NULL, err);

	return r ? r : fault_host(&engine->host, engine->config, host, err);
}

static void fault_close(struct engine *engine)
{
	if (engine) {
		(void)fault_at(engine, FAULT_CLOSE, NULL, NULL);
		fault_host_end(engine->host);
	}
	free(engine);
}

const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "fault",
		.version = MOULT_VERSION,
		.stage = fault_stage,
		.commit = fault_commit,
		.infer = fault_infer,
		.host = fault_begin_host,
		.close = fault_close,
	};

	return &api;
}
