/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The state directory, written by somebody who got moultd's rights over files, or by a machine
 * that stopped: manifests of what served last, of the configuration, the file of numbers, and
 * receipts. What is taken of them is whole and can be kept again; no number comes twice, and a
 * receipt that is appended behind anything is read back.
 */

#include <assert.h>
#include <jansson.h>

#include "shared/cleanup.h"
#include "shared/log.h"
#include "supervisor/keep/config_kept.h"
#include "supervisor/keep/keep.h"
#include "supervisor/keep/manifest.h"
#include "supervisor/keep/seal.h"
#include "supervisor/keep/numbers.h"
#include "supervisor/parts/receipt.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/folder.h"

#define MODEL    "m"
#define RECEIPTS 5u
/* Before the code of a manifest: keep.c. */
#define SEAL_MARK "\nhmac-sha256 "
/* Ends a file in the input. */
#define SEPARATOR '\f'
/* Stands for the digest of the file of secrets. */
#define DIGEST_MARK "$SECRETS"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *folder;
static int folder_fd = -1;
static int model_fd;
static int config_fd;
static int key_fd; /* of the codes of manifests */
static struct config *like;
static char main_path[128];

static void leave(void)
{
	config_unref(like);
}

static int make_folder(int parent_fd, const char *name)
{
	int fd;

	(void)mkdirat(parent_fd, name, 0700);
	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(fd >= 0);
	return fd;
}

static void start(void)
{
	static const char text[] = "[model " MODEL "]\nengine = identity\n"
				   "input = a FP32 [-1,4]\noutput = b FP32 [-1,4]\n";
	struct err err = ERR_NULL;
	int good_fd;

	log_set_level(LOG_LEVEL_NONE);
	folder = fuzz_folder_enter();
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(folder_fd >= 0 && setenv("STATE_DIRECTORY", folder, 1) == 0);
	(void)snprintf(main_path, sizeof(main_path), "%s/moult.conf", folder);
	fuzz_folder_write_at(folder_fd, "moult.conf", text, strlen(text), 0600);
	assert(config_load(&like, main_path, &err) == 0);
	(void)atexit(leave);
	good_fd = make_folder(folder_fd, KEEP_DIR);
	model_fd = make_folder(good_fd, MODEL);
	config_fd = make_folder(good_fd, ".config");
	assert(seal_make_key(good_fd) == 0);
	key_fd = openat(good_fd, SEAL_KEY, O_RDONLY | O_CLOEXEC);
	assert(key_fd >= 0);
}

/* Takes what stands before the next separator off @bytes. */
static struct fuzz_bytes take_file(struct fuzz_bytes *bytes)
{
	struct fuzz_bytes file = *bytes;
	const uint8_t *end =
		bytes->left > 0 ? memchr(bytes->at, SEPARATOR, bytes->left) : NULL;

	if (end)
		file.left = (size_t)(end - bytes->at);
	bytes->at += file.left;
	bytes->left -= file.left;
	if (end) {
		bytes->at++;
		bytes->left--;
	}
	return file;
}

/* Writes a manifest, with its code, under the name that its content asks for, or, for one damaged, another. */
static void write_manifest(int dir_fd, uint64_t number, const char *text, size_t bytes,
                           bool is_damaged)
{
	char sha256[KEEP_SHA256_HEX];
	char name[KEEP_NAME_MAX + 16];
	FREE char *sealed = malloc(bytes + sizeof(SEAL_MARK) + SEAL_HEX);

	assert(sealed);
	memcpy(sealed, text, bytes);
	memcpy(sealed + bytes, SEAL_MARK, sizeof(SEAL_MARK) - 1);
	assert(seal_print(key_fd, number, text, bytes,
	                  sealed + bytes + sizeof(SEAL_MARK) - 1) == 0);
	keep_digest(text, bytes, sha256);
	if (is_damaged)
		sha256[0] ^= 1;
	(void)snprintf(name, sizeof(name), "manifest-%020llu-%s",
	               (unsigned long long)number, sha256);
	bytes += sizeof(SEAL_MARK) - 1 + SEAL_HEX;
	sealed[bytes - 1] = '\n';
	fuzz_folder_write_at(dir_fd, name, sealed, bytes, 0600);
}

/* Manifests of a model */

static char *with_digest(struct fuzz_bytes file, const char *sha256, size_t *ret_bytes)
{
	const size_t mark = strlen(DIGEST_MARK);
	char *text = malloc(file.left + KEEP_SHA256_HEX);
	const uint8_t *at =
		file.left > 0 ? memmem(file.at, file.left, DIGEST_MARK, mark) : NULL;
	size_t before = at ? (size_t)(at - file.at) : file.left;
	size_t n = before;

	assert(text);
	if (before > 0)
		memcpy(text, file.at, before);
	if (at) {
		memcpy(text + n, sha256, KEEP_SHA256_HEX - 1);
		n += KEEP_SHA256_HEX - 1;
		memcpy(text + n, at + mark, file.left - before - mark);
		n += file.left - before - mark;
	}
	*ret_bytes = n;
	return text;
}

/* Checks inputs that were kept: they can be kept again, and are then what they were. */
static void check_inputs(const struct inputs *inputs)
{
	struct inputs *again = NULL;
	struct err err = ERR_NULL;
	struct memfd map;

	assert(inputs->config->n_models == 1);
	assert(inputs->section == inputs->config->models[0]);
	assert(secrets_map(&inputs->secrets, &map) == 0);
	memfd_fini(&map);
	if (strcmp(inputs->section->name, MODEL) != 0 ||
	    (inputs->weights_fd >= 0 && !keep_is_digest(inputs->weights_sha256)))
		return;
	assert(manifest_save(folder, inputs, true, INT64_MAX - 1, &err) == 0);
	assert(manifest_load(&again, folder, MODEL, like, &err) == 0);
	assert(!config_model_needs_generation(inputs->section, again->section));
	assert(inputs->secrets.count == again->secrets.count &&
	       strcmp(inputs->secrets.digest, again->secrets.digest) == 0);
	inputs_unref(again);
}

static void play_model(struct fuzz_bytes *bytes, uint8_t how)
{
	struct fuzz_bytes secrets = take_file(bytes);
	char sha256[KEEP_SHA256_HEX];
	char name[KEEP_NAME_MAX];
	struct inputs *inputs = NULL;
	struct err err = ERR_NULL;

	keep_digest(secrets.at, secrets.left, sha256);
	keep_name(name, "secrets", sha256);
	fuzz_folder_write_at(model_fd, name, secrets.at, secrets.left,
	                     how & 1 ? 0640 : 0600);
	for (uint64_t number = 1; bytes->left > 0 && number <= 3; number++) {
		size_t n;
		FREE char *text = with_digest(take_file(bytes), sha256, &n);

		write_manifest(model_fd, number, text, n, how & 1 << number);
	}
	if (manifest_load(&inputs, folder, MODEL, like, &err) == 0)
		check_inputs(inputs);
	inputs_unref(inputs);
	fuzz_folder_clear(model_fd, ".");
}

/* Manifests of the configuration */

static void check_config(struct config *config)
{
	struct config_kept kept = { .config = config, .n_sections = config->n_models };
	struct config *again = NULL;
	FREE char *text = NULL;
	FREE char *second = NULL;
	struct err err = ERR_NULL;

	memcpy(kept.sections, config->models,
	       config->n_models * sizeof(config->models[0]));
	text = config_kept_print(&kept);
	/* What cannot be written as JSON is not kept. */
	if (!text)
		return;
	assert(config_kept_save(folder, text, INT64_MAX - 1, &err) == 0);
	assert(config_kept_load(&again, main_path, &err) == 0);
	assert(again->n_models == config->n_models);
	kept.config = again;
	memcpy(kept.sections, again->models, again->n_models * sizeof(again->models[0]));
	second = config_kept_print(&kept);
	assert(second && strcmp(text, second) == 0);
	config_unref(again);
}

static void play_config(struct fuzz_bytes *bytes, uint8_t how)
{
	struct fuzz_bytes file = take_file(bytes);
	struct config *config = NULL;
	struct err err = ERR_NULL;

	fuzz_folder_write_at(folder_fd, "moult.conf", file.at, file.left, 0600);
	for (uint64_t number = 1; bytes->left > 0 && number <= 2; number++) {
		struct fuzz_bytes text = take_file(bytes);
		json_t *json = json_loadb((const char *)text.at, text.left, 0, NULL);
		FREE char *printed = NULL;

		/* The file that it was kept of has another name in each run. */
		if (json_is_string(json_object_get(json, "file"))) {
			assert(json_object_set_new(json, "file",
			                           json_string(main_path)) == 0);
			printed = json_dumps(json, 0);
		}
		json_decref(json);
		write_manifest(config_fd, number,
		               printed ? printed : (const char *)text.at,
		               printed ? strlen(printed) : text.left, how & 1 << number);
	}
	if (config_kept_load(&config, main_path, &err) == 0)
		check_config(config);
	else
		assert(!config);
	config_unref(config);
	fuzz_folder_clear(config_fd, ".");
}

/* Numbers and receipts */

static void play_numbers(const struct fuzz_bytes *bytes, uint64_t at_least)
{
	struct numbers numbers;
	struct numbers again;
	struct err err = ERR_NULL;
	uint64_t next;

	fuzz_folder_write_at(folder_fd, "generation", bytes->at, bytes->left, 0600);
	assert(numbers_init(&numbers, folder, at_least, &err) == 0);
	assert(numbers.last >= at_least);
	next = numbers_next(&numbers);
	assert(next > at_least);
	numbers_fini(&numbers);
	assert(numbers_init(&again, folder, 0, &err) == 0);
	/* A number that no run can reach is not believed. */
	assert(again.last == next || next >= INT64_MAX);
	numbers_fini(&again);
}

static void play_receipts(struct fuzz_bytes *bytes, uint8_t how)
{
	const struct receipt receipt = { .number = 7, .model = MODEL, .cause = "start" };
	struct fuzz_bytes old = take_file(bytes);
	const char *model = how & 1 ? MODEL : NULL;
	json_t *json = receipt_to_json(&receipt);
	json_t *receipts;
	json_t *one;
	size_t i;

	fuzz_folder_write_at(folder_fd, "receipts.jsonl.1", old.at, old.left, 0600);
	fuzz_folder_write_at(folder_fd, "receipts.jsonl", bytes->at, bytes->left, 0600);
	receipts = receipt_read(folder, model, RECEIPTS);
	assert(json && json_array_size(receipts) <= RECEIPTS);
	json_array_foreach(receipts, i, one)
	{
		const char *name = keep_text(one, "model");

		assert(name && (!model || strcmp(name, model) == 0));
	}
	json_decref(receipts);
	assert(receipt_append(folder, json) == 0);
	receipts = receipt_read(folder, model, 1);
	assert(json_array_size(receipts) == 1);
	one = json_array_get(receipts, 0);
	assert(json_integer_value(json_object_get(one, "number")) ==
	       (json_int_t)receipt.number);
	json_decref(receipts);
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes = { data, size };
	uint8_t what = fuzz_u8(&bytes);
	int next_fd;

	if (folder_fd < 0)
		start();
	next_fd = fuzz_next_fd();
	switch (what % 4) {
	case 0:
		play_model(&bytes, what >> 2);
		break;
	case 1:
		play_config(&bytes, what >> 2);
		break;
	case 2:
		play_numbers(&bytes, what >> 2);
		break;
	default:
		play_receipts(&bytes, what >> 2);
		break;
	}
	assert(fuzz_next_fd() == next_fd);
	return 0;
}
