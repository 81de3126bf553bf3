/* SPDX-License-Identifier: Apache-2.0 */

/* Kinds of files that people hand over as a TorchScript archive. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/model_format.h"

#define TEXT(text) text, sizeof(text) - 1

static unsigned char content[1 << 16];
static size_t content_bytes;

static size_t read_content(void *context, uint64_t at, void *buffer, size_t bytes)
{
	(void)context;
	/* The bytes behind the end are anything, and may look like a head. */
	for (size_t i = 0; i < bytes; i++)
		((char *)buffer)[i] = "GGUF"[i % 4];
	if (at >= content_bytes)
		return 0;
	if (bytes > content_bytes - at)
		bytes = content_bytes - (size_t)at;
	memcpy(buffer, content + at, bytes);
	return bytes;
}

static int check(struct err *err)
{
	const struct model_file file = { read_content, NULL, content_bytes };

	return model_format_check_torchscript(&file, err);
}

static void put(const void *data, size_t bytes)
{
	memcpy(content + content_bytes, data, bytes);
	content_bytes += bytes;
}

static void put_number(uint64_t number, size_t bytes)
{
	while (bytes-- > 0) {
		content[content_bytes++] = (unsigned char)number;
		number >>= 8;
	}
}

static void put_zeros(size_t bytes)
{
	memset(content + content_bytes, 0, bytes);
	content_bytes += bytes;
}

/* Writes a zip archive of stored files: names and contents, up to a NULL. */
static void put_zip(const char *const *rows, const size_t *bytes, bool has_end)
{
	uint64_t at[8] = { 0 };
	uint64_t directory;
	size_t n = 0;

	for (; rows[2 * n]; n++) {
		at[n] = content_bytes;
		put(TEXT("PK\3\4"));
		put_zeros(22);
		put_number(strlen(rows[2 * n]), 2);
		put_number(0, 2);
		put(rows[2 * n], strlen(rows[2 * n]));
		put(rows[2 * n + 1], bytes[n]);
	}
	directory = content_bytes;
	for (size_t i = 0; i < n; i++) {
		put(TEXT("PK\1\2"));
		put_zeros(24);
		put_number(strlen(rows[2 * i]), 2);
		put_zeros(12);
		put_number(at[i], 4);
		put(rows[2 * i], strlen(rows[2 * i]));
	}
	if (!has_end)
		return;
	put(TEXT("PK\5\6"));
	put_zeros(4);
	put_number(n, 2);
	put_number(n, 2);
	put_number(content_bytes - directory - 12, 4);
	put_number(directory, 4);
	put_zeros(2);
}

static const struct {
	const char *name;
	const char *head;
	size_t bytes;
	const char *says;
} heads[] = {
	{ "GGUF", TEXT("GGUF\3\0\0\0"), "a GGUF file" },
	{ "GGML", TEXT("lmgg\1\0\0\0"), "a GGML file" },
	{ "GGML with versions", TEXT("tjgg\3\0\0\0"), "a GGML file" },
	{ "TensorRT", TEXT("ftrt\0\0\0\0"), "a TensorRT engine" },
	{ "ELF", TEXT("\177ELF\2\1\1\0"), "a shared library" },
	{ "xz", TEXT("\3757zXZ\0...."), "unxz" },
	{ "bzip2", TEXT("BZh91AY"), "bunzip2" },
	{ "zstd", TEXT("\050\265\057\375...."), "unzstd" },
	{ "HDF5", TEXT("\211HDF\r\n\032\n...."), "an HDF5 file" },
	{ "ORT", TEXT("\034\0\0\0ORTM...."), "in ONNX Runtime's own format" },
	{ "TFLite", TEXT("\034\0\0\0TFL3...."), "TensorFlow Lite" },
	{ "SavedModel", TEXT("\010\001\022\377\001\012"), "SavedModel" },
	{ "ONNX of PyTorch", TEXT("\010\007\022\007pytorch\032\003"), "an ONNX model" },
	{ "ONNX, graph first", TEXT("\010\012\072\320\001"), "an ONNX model" },
	{ "safetensors", TEXT("\010\0\0\0\0\0\0\0{\"a\":{}}"), "safetensors" },
	{ "its header is longer than it", TEXT("\100\0\0\0\0\0\0\0{\"a\":{}}"),
	  "no zip archive" },
	{ "Git LFS", TEXT("version https://git-lfs.github.com/spec/v1\n"),
	  "git lfs pull" },
	{ "gzip", TEXT("\037\213\010\0...."), "gunzip" },
	{ "web page", TEXT("<!DOCTYPE html>"), "web page" },
	{ "web page in small letters", TEXT("<!doctype html>"), "web page" },
	{ "web page without its type", TEXT("<html lang=en>"), "web page" },
	{ "old torch.save",
	  TEXT("\200\002\212\012\154\374\234\106\371\040\152\250\120\031.\200\002M"),
	  "before 1.6" },
	{ "pickle of a dict", TEXT("\200\004\225\020\0\0\0\0\0\0\0}\224\214"),
	  "state_dict" },
	{ "pickle of weights", TEXT("\200\002ccollections\nOrderedDict\nq\0)"),
	  "state_dict" },
	{ "pickle of a module", TEXT("\200\002c__main__\nNet\nq\0)"), "pickled Python" },
	{ "NumPy", TEXT("\223NUMPY\1\0"), "a NumPy array" },
	{ "text", TEXT("not a model at all\n"), "a text, and no zip archive" },
	{ "one byte", TEXT("P"), "no zip archive" },
	{ "nothing", TEXT(""), "no zip archive" },
	{ "zip that was cut off", TEXT("PK\3\4\0\0\0\0\0\0\0\0\0\0"), "cut off" },
};

static void test_heads(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct err err = ERR_NULL;

		content_bytes = 0;
		put(heads[i].head, heads[i].bytes);
		if (check(&err) != MODEL_FORMAT_E_OTHER ||
		    !strstr(err.text, heads[i].says))
			fail_msg("%s: '%s'", heads[i].name, err.text);
	}
}

static const struct {
	const char *name;
	const char *rows[8];
	size_t bytes[4];
	const char *says; /* NULL: no objection */
} zips[] = {
	{ "TorchScript",
	  { "m/data.pkl", "x", "m/constants.pkl", "x", NULL },
	  { 1, 1 },
	  NULL },
	{ "TorchScript of 1.3", { "m/model.json", "x", NULL }, { 1 }, NULL },
	{ "weights",
	  { "archive/data.pkl", "\200\002ccollections\nOrderedDict\n", NULL },
	  { 27 },
	  "state_dict" },
	{ "checkpoint", { "a/data.pkl", "\200\002}q\1(", NULL }, { 6 }, "state_dict" },
	{ "module",
	  { "a/data.pkl", "\200\002c__main__\nNet\n", NULL },
	  { 16 },
	  "pickled" },
	{ "module that is damaged", { "a/data.pkl", "", NULL }, { 0 }, "pickled" },
	{ "torch.export", { "m/archive_format", "pt2", NULL }, { 3 }, "torch.export" },
	{ "torch.export of 2.1",
	  { "serialized_exported_program.json", "{}", NULL },
	  { 2 },
	  "torch.export" },
	{ "AOTInductor",
	  { "m/data/aotinductor/model/c.so", "x", "m/archive_format", "pt2", NULL },
	  { 1, 3 },
	  "AOTInductor (.pt2): set engine = aoti" },
	{ "AOTInductor without code",
	  { "m/data/aotinductor/model/c.cpp", "x", "m/archive_format", "pt2", NULL },
	  { 1, 3 },
	  "torch.export" },
	{ "Keras",
	  { "config.json", "{}", "model.weights.h5", "x", NULL },
	  { 2, 1 },
	  "Keras" },
	{ "NumPy", { "w.npy", "x", NULL }, { 1 }, ".npz" },
	{ "anything", { "readme.txt", "x", NULL }, { 1 }, "none of TorchScript" },
};

/* Formats that more engines than torch run are told apart. */
static void test_formats(void **state)
{
	static const struct {
		const char *head;
		size_t bytes;
		enum model_format want;
	} rows[] = {
		{ TEXT("\010\007\022\007pytorch\032\003"), MODEL_FORMAT_ONNX },
		{ TEXT("\034\0\0\0ORTM...."), MODEL_FORMAT_ORT },
		{ TEXT("\034\0\0\0TFL3...."), MODEL_FORMAT_UNKNOWN },
		{ TEXT("GGUF\3\0\0\0"), MODEL_FORMAT_UNKNOWN },
	};
	const struct model_file file = { read_content, NULL, 0 };
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct model_file one = file;

		content_bytes = 0;
		put(rows[i].head, rows[i].bytes);
		one.bytes = content_bytes;
		assert_int_equal(model_format_tell(&one, &err), rows[i].want);
	}
	for (size_t i = 0; i < sizeof(zips) / sizeof(zips[0]); i++) {
		struct model_file one = file;
		bool is_exported = zips[i].says && strstr(zips[i].says, "torch.export");

		content_bytes = 0;
		put_zip(zips[i].rows, zips[i].bytes, true);
		one.bytes = content_bytes;
		assert_int_equal(model_format_tell(&one, &err) == MODEL_FORMAT_EXPORTED,
		                 is_exported);
		assert_int_equal(model_format_check_aoti(&one, &err) == 0,
		                 strcmp(zips[i].name, "AOTInductor") == 0);
	}
}

static void test_zips(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(zips) / sizeof(zips[0]); i++) {
		struct err err = ERR_NULL;
		int r;

		content_bytes = 0;
		put_zip(zips[i].rows, zips[i].bytes, true);
		r = check(&err);
		if (zips[i].says ? r == 0 || !strstr(err.text, zips[i].says) : r != 0)
			fail_msg("%s: %d '%s'", zips[i].name, r, err.text);
		content_bytes = 0;
		put_zip(zips[i].rows, zips[i].bytes, false);
		assert_int_equal(check(&err), MODEL_FORMAT_E_OTHER);
		assert_non_null(strstr(err.text, "cut off"));
	}
}

static void test_tar(void **state)
{
	struct err err = ERR_NULL;

	(void)state;
	content_bytes = 0;
	put(TEXT("model.pt"));
	put_zeros(257 - content_bytes);
	put(TEXT("ustar\00000"));
	assert_int_equal(check(&err), MODEL_FORMAT_E_OTHER);
	assert_non_null(strstr(err.text, "a tar archive"));
}

/* ZIP64, and a directory larger than the file or than any real one: no objection. */
static void test_directories(void **state)
{
	static const struct {
		size_t from_end;
		uint32_t value;
	} rows[] = { { 6, UINT32_MAX }, { 6, 1 << 15 }, { 10, 1 << 30 }, { 10, 1000 } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_NULL;
		size_t end;

		content_bytes = 0;
		put_zip(zips[2].rows, zips[2].bytes, true);
		end = content_bytes;
		content_bytes -= rows[i].from_end;
		put_number(rows[i].value, 4);
		content_bytes = end;
		assert_int_equal(check(&err), 0);
	}
}

/* The file is cut anywhere, and has any byte replaced: the check must only end. */
static void test_damage(void **state)
{
	static const unsigned char values[] = { 0x00, 0x7f, 0x80, 0xff };
	struct err err = ERR_NULL;
	size_t whole;

	(void)state;
	content_bytes = 0;
	put_zip(zips[2].rows, zips[2].bytes, true);
	whole = content_bytes;
	for (content_bytes = 0; content_bytes < whole; content_bytes++)
		assert_int_equal(check(&err), MODEL_FORMAT_E_OTHER);
	for (size_t i = 0; i < whole; i++)
		for (size_t j = 0; j < sizeof(values); j++) {
			unsigned char kept = content[i];

			content[i] = values[j];
			(void)check(&err);
			content[i] = kept;
		}
}

/* The same files, given to engine onnx. */
static const struct {
	const char *name;
	const char *head;
	size_t bytes;
	const char *says; /* NULL: for the runtime to judge */
} heads_of_onnx[] = {
	{ "ONNX of PyTorch", TEXT("\010\007\022\007pytorch\032\003"), NULL },
	{ "ONNX, graph first", TEXT("\072\320\001\012"), NULL },
	{ "ONNX Runtime's own", TEXT("\060\0\0\0ORTM"), NULL },
	{ "GGUF", TEXT("GGUF\3\0\0\0"), "torch.onnx.export" },
	{ "pickle of weights", TEXT("\200\002ccollections\nOrderedDict\nq\0)"),
	  "engine onnx runs ONNX" },
	{ "Git LFS", TEXT("version https://git-lfs.github.com/spec/v1\n"),
	  "git lfs pull" },
	{ "text", TEXT("not a model at all\n"), "neither a protobuf" },
	{ "zeros", TEXT("\0\0\0\0\0\0\0\0"), "neither a protobuf" },
	{ "nothing", TEXT(""), "neither a protobuf" },
	{ "zip that was cut off", TEXT("PK\3\4\0\0\0\0\0\0\0\0\0\0"), "cut off" },
};

static void test_heads_of_onnx(void **state)
{
	const struct model_file file = { read_content, NULL, 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(heads_of_onnx) / sizeof(heads_of_onnx[0]); i++) {
		struct model_file now = file;
		struct err err = ERR_NULL;
		int r;

		content_bytes = 0;
		put(heads_of_onnx[i].head, heads_of_onnx[i].bytes);
		now.bytes = content_bytes;
		r = model_format_check_onnx(&now, &err);
		if (heads_of_onnx[i].says
		            ? r != MODEL_FORMAT_E_OTHER ||
		                      !strstr(err.text, heads_of_onnx[i].says)
		            : r != 0)
			fail_msg("%s: %d, %s", heads_of_onnx[i].name, r, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads_of_onnx), cmocka_unit_test(test_heads),
		cmocka_unit_test(test_zips),          cmocka_unit_test(test_tar),
		cmocka_unit_test(test_directories),   cmocka_unit_test(test_damage),
		cmocka_unit_test(test_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
