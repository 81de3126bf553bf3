/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Recognises model files, to tell an operator what a wrong file is and how to get the right
 * one. format_of() asks the tests in the order of their certainty: a zip archive (by the names
 * in its directory), the table of magic numbers, tar, safetensors, protobuf, and last a bare
 * pickle. A test answers with the end of the sentence, or with NULL for "TorchScript, or for
 * libtorch to judge". Every length from the file is checked before it is used.
 */
#include "shared/model_format.h"

#include <stdbool.h>
#include <string.h>

#include "shared/zip.h"

#define HEAD_BYTES 512
/* So much of a pickle is read to tell what it holds. */
#define PICKLE_BYTES 4096

/* Ends a sentence: here the remedy of the engine in question follows. */
#define REMEDY "\1"
#define SCRIPT                                                                           \
	"engine torch runs TorchScript, as "                                             \
	"torch.jit.script(model.eval()).save(\"m.pt\") "                                 \
	"writes it (or torch.jit.trace(model.eval(), example))"
#define ONNX                                                                             \
	"engine onnx runs ONNX, as "                                                     \
	"torch.onnx.export(model.eval(), example, \"m.onnx\") writes it"
#define COMPILE                                                                          \
	"torch._inductor.aoti_compile_and_package(torch.export.export(model.eval(), "    \
	"(example,)), package_path=\"m.pt2\")"
#define PACKAGE "engine aoti runs packages of AOTInductor, as " COMPILE " writes them"
#define STATE_DICT                                                                       \
	"weights without the model's code (a state_dict): load them into the model "     \
	"with "                                                                          \
	"model.load_state_dict(torch.load(...)), then export that; " REMEDY
#define PICKLED                                                                          \
	"a pickled Python object (torch.save of a module), which only the program that " \
	"defines its class can load: load it there with torch.load(...) and export "     \
	"it; " REMEDY
#define ELSEWHERE "export the model that it was made of; " REMEDY

/* Of these engine onnx, or torch, makes something else. */
static const char format_onnx[] = "an ONNX model: set engine = onnx; or " ELSEWHERE;
static const char format_ort[] =
	"a model in ONNX Runtime's own format: set engine = onnx; or " ELSEWHERE;
static const char format_zip[] = "a zip archive, but none of TorchScript: " REMEDY;
static const char format_nothing[] =
	"no zip archive, which every TorchScript file is: " REMEDY;

static const char format_text[] =
	"a text, and no zip archive, which every TorchScript file is: " REMEDY;
static const char format_exported[] =
	"a program of torch.export (.pt2): for engine aoti compile it, with "
	"torch._inductor.aoti_compile_and_package(torch.export.load(\"m.pt2\"), "
	"package_path=\"compiled.pt2\"); or " ELSEWHERE;
static const char format_compiled[] =
	"a package of AOTInductor (.pt2): set engine = aoti; or " ELSEWHERE;

static const struct {
	const char *magic;
	uint8_t at;
	uint8_t bytes;
	const char *what;
} magics[] = {
	{ "GGUF", 0, 4, "a GGUF file of llama.cpp: " ELSEWHERE },
	{ "lmgg", 0, 4, "a GGML file of llama.cpp: " ELSEWHERE },
	{ "tjgg", 0, 4, "a GGML file of llama.cpp: " ELSEWHERE },
	{ "\211HDF\r\n\032\n", 0, 8, "an HDF5 file (Keras): " ELSEWHERE },
	{ "\223NUMPY", 0, 6, "a NumPy array: " STATE_DICT },
	{ "ORTM", 4, 4, format_ort },
	{ "TFL3", 4, 4, "a TensorFlow Lite model: " ELSEWHERE },
	{ "ftrt", 0, 4, "a TensorRT engine: " ELSEWHERE },
	{ "\177ELF", 0, 4, "a shared library (AOTInductor?): " ELSEWHERE },
	{ "version https://git-lfs", 0, 23,
	  "a pointer of Git LFS and not the file itself: fetch it with git lfs pull" },
	{ "\037\213", 0, 2, "compressed with gzip: unpack it with gunzip" },
	{ "\3757zXZ", 0, 5, "compressed with xz: unpack it with unxz" },
	{ "BZh", 0, 3, "compressed with bzip2: unpack it with bunzip2" },
	{ "\050\265\057\375", 0, 4, "compressed with zstd: unpack it with unzstd" },
	{ "<!DOCTYPE", 0, 9, "a web page: what was downloaded is no model" },
	{ "<!doctype", 0, 9, "a web page: what was downloaded is no model" },
	{ "<html", 0, 5, "a web page: what was downloaded is no model" },
	/* torch.save before 1.6: its magic number, pickled. */
	{ "\200\002\212\012\154\374\234\106\371\040\152\250\120\031", 0, 14,
	  "of torch.save in its format before 1.6: " REMEDY },
};

static uint64_t format_number(const unsigned char *data, size_t bytes)
{
	uint64_t number = 0;

	while (bytes-- > 0)
		number = number << 8 | data[bytes];
	return number;
}

static bool format_is(const unsigned char *head, size_t bytes, size_t at,
                      const char *magic, size_t n)
{
	return bytes >= at + n && memcmp(head + at, magic, n) == 0;
}

/* A safetensors file begins with the length of a JSON object, then the object. */
static bool format_is_safetensors(const struct model_file *file,
                                  const unsigned char *head, size_t bytes)
{
	uint64_t json_bytes;

	if (bytes < 10)
		return false;
	json_bytes = format_number(head, 8);
	return head[8] == '{' && json_bytes >= 2 && file->bytes > 8 &&
	       json_bytes <= file->bytes - 8;
}

/* ONNX's ModelProto and a SavedModel are protobuf and begin with field 1, a small number; the tag
 * of the next field tells them apart. */
static const char *format_of_protobuf(const unsigned char *head, size_t bytes)
{
	if (bytes < 4 || head[0] != 0x08 || head[1] == 0 || head[1] > 64)
		return NULL;
	if (head[1] == 1 && head[2] == 0x12)
		return "a TensorFlow SavedModel: " ELSEWHERE;
	if (head[1] >= 2 && head[2] &&
	    strchr("\x12\x1a\x22\x28\x32\x3a\x42\x72", head[2]))
		return format_onnx;
	return NULL;
}

/* A pickle that begins with a dict holds weights; any other one holds an object. */
static const char *format_of_pickle(const unsigned char *data, size_t bytes)
{
	static const char dict[] = "collections\nOrderedDict";
	const unsigned char *global;

	if (bytes < 4 || data[0] != 0x80 || data[1] < 2 || data[1] > 5)
		return NULL;
	/* From protocol 4 on a frame's head of 9 bytes stands before the first opcode. */
	global = data[1] >= 4 && data[2] == 0x95 && bytes > 12 ? data + 11 : data + 2;
	if (*global == '}' ||
	    memmem(data, bytes < 64 ? bytes : 64, dict, sizeof(dict) - 1) ||
	    memmem(data, bytes < 64 ? bytes : 64, "OrderedDict", 11))
		return STATE_DICT;
	return PICKLED;
}

/* Marks that the names in a zip archive leave. */
struct format_zip {
	bool has_constants;
	bool has_model_json; /* TorchScript before 1.4 */
	bool is_exported;
	bool is_compiled;
	bool is_numpy;
	bool is_keras;
	uint64_t pickle_at; /* of data.pkl's local header; only if has_pickle */
	bool has_pickle;
	size_t n_entries;
};

static bool format_name_is(const char *name, const char *last)
{
	size_t bytes = strlen(name);
	size_t n = strlen(last);

	return bytes >= n && strcmp(name + bytes - n, last) == 0 &&
	       (bytes == n || name[bytes - n - 1] == '/');
}

static void format_note_entry(void *context, const struct zip_entry *entry)
{
	struct format_zip *zip = context;
	const char *name = entry->name;
	size_t bytes = strlen(name);

	zip->n_entries++;
	zip->has_constants |= format_name_is(name, "constants.pkl");
	zip->has_model_json |=
		format_name_is(name, "model.json") && !strstr(name, "models/");
	zip->is_exported |= strstr(name, "serialized_exported_program") != NULL ||
	                    format_name_is(name, "archive_format");
	zip->is_compiled |= strstr(name, "data/aotinductor/") && bytes > 3 &&
	                    strcmp(name + bytes - 3, ".so") == 0;
	zip->is_numpy |= bytes > 4 && strcmp(name + bytes - 4, ".npy") == 0;
	zip->is_keras |= format_name_is(name, "model.weights.h5");
	if (format_name_is(name, "data.pkl") && !zip->has_pickle) {
		zip->has_pickle = true;
		zip->pickle_at = entry->at;
	}
}

static const char *format_of_data(const struct model_file *file, uint64_t at)
{
	unsigned char data[PICKLE_BYTES];
	const char *what;
	size_t n;

	at = zip_find_data(file, at);
	n = at > 0 ? file->read(file->context, at, data, sizeof(data)) : 0;
	what = format_of_pickle(data, n);
	return what ? what : PICKLED;
}

static const char *format_of_zip(const struct model_file *file)
{
	struct format_zip zip = { 0 };

	switch (zip_list(file, format_note_entry, &zip)) {
	case 0:
		break;
	case ZIP_E_CUT:
		return "a zip archive without its end: it was cut off, or is still being "
		       "copied; write it under another name and rename it into place";
	default:
		return NULL; /* libtorch says what is wrong */
	}
	if (zip.is_compiled)
		return format_compiled;
	if (zip.has_constants || (zip.has_model_json && !zip.is_exported))
		return NULL;
	if (zip.is_exported)
		return format_exported;
	if (zip.has_pickle)
		return format_of_data(file, zip.pickle_at);
	if (zip.is_keras)
		return "a model of Keras: " ELSEWHERE;
	if (zip.is_numpy)
		return "arrays of NumPy (.npz): " STATE_DICT;
	return format_zip;
}

/* Bytes of text, with nothing that a text does not have. */
static bool format_is_text(const unsigned char *head, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if ((head[i] < ' ' && !strchr("\t\n\f\r", head[i])) || head[i] == 0 ||
		    head[i] == 0x7f)
			return false;
	return bytes > 1;
}

static const char *format_of(const struct model_file *file)
{
	unsigned char head[HEAD_BYTES];
	size_t bytes = file->read(file->context, 0, head, sizeof(head));
	const char *what;

	if (format_is(head, bytes, 0, "PK\3\4", 4) ||
	    format_is(head, bytes, 0, "PK\5\6", 4))
		return format_of_zip(file);
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
		if (format_is(head, bytes, magics[i].at, magics[i].magic,
		              magics[i].bytes))
			return magics[i].what;
	if (format_is(head, bytes, 257, "ustar", 5))
		return "a tar archive: unpack it; " REMEDY;
	if (format_is_safetensors(file, head, bytes))
		return "weights without the model's code (safetensors): load them into "
		       "the model "
		       "with safetensors.torch.load_file, then export that; " REMEDY;
	what = format_of_protobuf(head, bytes);
	if (!what)
		what = format_of_pickle(head, bytes);
	if (!what && format_is_text(head, bytes))
		what = format_text;
	return what ? what : format_nothing;
}

static int format_say(const char *what, const char *remedy, struct err *err)
{
	int bytes = (int)strcspn(what, REMEDY);

	return err_set(err, MODEL_FORMAT_E_OTHER, "it is %.*s%s", bytes, what,
	               what[bytes] ? remedy : "");
}

enum model_format model_format_tell(const struct model_file *file, struct err *err)
{
	const char *what = format_of(file);

	if (!what)
		return MODEL_FORMAT_TORCHSCRIPT;
	(void)format_say(what, SCRIPT, err);
	if (what == format_exported)
		return MODEL_FORMAT_EXPORTED;
	if (what == format_compiled)
		return MODEL_FORMAT_COMPILED;
	if (what == format_onnx)
		return MODEL_FORMAT_ONNX;
	return what == format_ort ? MODEL_FORMAT_ORT : MODEL_FORMAT_UNKNOWN;
}

int model_format_check_torchscript(const struct model_file *file, struct err *err)
{
	const char *what = format_of(file);

	return what ? format_say(what, SCRIPT, err) : 0;
}

/* A protobuf may have its fields in any order: true for the first byte of each field that
 * ModelProto has. */
static bool format_may_be_onnx(const struct model_file *file)
{
	static const char tags[] = "\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca\xd2";
	char first = '\0';

	return file->read(file->context, 0, &first, 1) == 1 && first &&
	       strchr(tags, first);
}

int model_format_check_onnx(const struct model_file *file, struct err *err)
{
	const char *what = format_of(file);

	if (!what)
		return format_say("TorchScript: set engine = torch; or " ELSEWHERE, ONNX,
		                  err);
	if (what == format_zip)
		return format_say("a zip archive, which no ONNX file is: " REMEDY, ONNX,
		                  err);
	if (what == format_onnx || what == format_ort ||
	    (what == format_nothing && format_may_be_onnx(file)))
		return 0;
	if (what == format_nothing || what == format_text)
		return format_say("neither a protobuf of ONNX nor a file of ONNX "
		                  "Runtime's own format (.ort): " REMEDY,
		                  ONNX, err);
	return format_say(what, ONNX, err);
}

int model_format_check_aoti(const struct model_file *file, struct err *err)
{
	const char *what = format_of(file);

	if (what == format_compiled)
		return 0;
	if (!what)
		return format_say("TorchScript: set engine = torch; or " ELSEWHERE,
		                  PACKAGE, err);
	if (what == format_exported)
		return format_say(
			"a program of torch.export (.pt2) without compiled code: "
			"compile it, as torch._inductor."
			"aoti_compile_and_package(torch.export.load(\"m.pt2\"), "
			"package_path=\"compiled.pt2\") does",
			PACKAGE, err);
	if (what == format_zip)
		return format_say("a zip archive, but no package of AOTInductor: " REMEDY,
		                  PACKAGE, err);
	if (what == format_nothing || what == format_text)
		return format_say("no zip archive, which every package of AOTInductor "
		                  "(.pt2) is: " REMEDY,
		                  PACKAGE, err);
	return format_say(what, PACKAGE, err);
}
