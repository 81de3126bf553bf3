/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One row for each format that an engine serves has the section's lines. Of other files
 * shared/model_format.c says what they are. The file is read within bounds, and nothing of it is
 * run.
 */
#include "supervisor/ctl/inspect/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/file.h"
#include "shared/model_format.h"
#include "supervisor/ctl/inspect/script.h"

#define INSPECT_NAME_MAX 64

#define TOLD                                                                             \
	"# What it takes and answers with is in the file: input and output may be left " \
	"out.\n"

#define TORCH                                                                            \
	"# The interpreter of an environment with the torch that compiled it, 2.6 or "   \
	"newer:\n# python = /path/to/venv/bin/python\n"

static const struct {
	const char *kind;
	const char *engine; /* NULL: no engine serves it */
	const char *told;   /* lines of the section about its tensors */
} formats[] = {
	[MODEL_FORMAT_TORCHSCRIPT] = { "TorchScript", "torch", NULL },
	[MODEL_FORMAT_EXPORTED] = { "torch.export", NULL, NULL },
	[MODEL_FORMAT_COMPILED] = { "AOTInductor", "aoti", TORCH TOLD },
	[MODEL_FORMAT_ONNX] = { "ONNX", "onnx", TOLD },
	[MODEL_FORMAT_ORT] = { "ORT", "onnx", TOLD },
	[MODEL_FORMAT_UNKNOWN] = { "other", NULL, NULL },
};

struct inspect {
	const char *path; /* as it was named */
	char *whole;      /* from the root */
	char name[INSPECT_NAME_MAX];
	int fd;
	struct model_file file;
	enum model_format format;
	char *section; /* NULL: there is none, and why has the reason */
	struct err why;
};

static size_t inspect_read(void *context, uint64_t at, void *buffer, size_t bytes)
{
	ssize_t n = file_read_at(*(int *)context, buffer, bytes, at);

	return n < 0 ? 0 : (size_t)n;
}

void ctl_inspect_name(const char *path, char *name, size_t size)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789_-";
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;
	const char *dot = strrchr(base, '.');
	size_t bytes = dot && dot > base ? (size_t)(dot - base) : strlen(base);
	size_t used = 0;

	for (size_t i = 0; i < bytes && used + 1 < size; i++)
		if (strchr(allowed, base[i]))
			name[used++] = base[i];
		else if (used > 0 && name[used - 1] != '_')
			name[used++] = '_';
	name[used] = '\0';
	/* A name begins with no dash. */
	while (*name == '-')
		memmove(name, name + 1, strlen(name));
	if (*name == '\0')
		(void)snprintf(name, size, "model");
}

static int inspect_open(struct inspect *inspect)
{
	struct err *why = &inspect->why;
	struct stat st;

	inspect->fd = open(inspect->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (inspect->fd < 0 || fstat(inspect->fd, &st) < 0)
		return err_set(why, -1, "it cannot be opened: %s",
		               access_why(&(struct err)ERR_NULL, inspect->path, R_OK,
		                          errno));
	if (S_ISDIR(st.st_mode))
		return err_set(why, -1,
		               "it is a folder: name the model's file in it; a class of "
		               "Python is named in a section with engine = python");
	if (!S_ISREG(st.st_mode))
		return err_set(why, -1, "it is no file: name the model's file itself");
	if (st.st_size == 0)
		return err_set(why, -1,
		               "it is empty: it was not written yet, or its copying "
		               "failed; copy it anew");
	inspect->file =
		(struct model_file){ inspect_read, &inspect->fd, (uint64_t)st.st_size };
	inspect->whole = realpath(inspect->path, NULL);
	return inspect->whole ? 0 : err_set(why, -1, "out of memory");
}

/* TorchScript: the file has the names of what forward takes, and a request tells the rest. */
static void inspect_script(const struct inspect *inspect, FILE *out)
{
	FREE char *forward = script_read_forward(&inspect->file);
	int name_bytes = forward ? (int)strcspn(forward, ":, ") : 0;
	struct err clean;

	if (name_bytes > 0) {
		(void)err_set(&clean, 0, "%s", forward);
		(void)fprintf(out, "# forward takes %s\n", clean.text);
	}
	(void)fprintf(out,
	              "# The file has neither datatypes nor shapes: a request that the "
	              "model can answer tells them,\n"
	              "# and output is what its answer has. Or declare them, for "
	              "instance\n"
	              "# input = %.*s FP32 [-1,64]\n"
	              "warmup_request = %s.json\n",
	              name_bytes > 0 ? name_bytes : 1, name_bytes > 0 ? forward : "x",
	              inspect->name);
}

static void inspect_make(struct inspect *inspect)
{
	size_t bytes;
	FILE *out;

	inspect->format = model_format_tell(&inspect->file, &inspect->why);
	if (!formats[inspect->format].engine)
		return;
	if (strpbrk(inspect->whole, "\n\r")) {
		(void)err_set(&inspect->why, 0,
		              "its path has a line's end in it, which no section can "
		              "hold: rename it");
		return;
	}
	out = open_memstream(&inspect->section, &bytes);
	if (!out)
		return;
	(void)fprintf(out, "[model %s]\nengine = %s\npath = %s\n", inspect->name,
	              formats[inspect->format].engine, inspect->whole);
	if (formats[inspect->format].told)
		(void)fputs(formats[inspect->format].told, out);
	else
		inspect_script(inspect, out);
	(void)fclose(out);
}

static void inspect_print(const struct inspect *inspect, bool is_json)
{
	json_t *json;
	FREE char *text = NULL;

	if (!is_json) {
		if (inspect->section)
			(void)fputs(inspect->section, stdout);
		return;
	}
	json = json_pack("{s:b, s:s, s:s?, s:s?}", "ok", inspect->section != NULL, "kind",
	                 formats[inspect->format].kind, "section", inspect->section,
	                 "error", inspect->section ? NULL : inspect->why.text);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	(void)printf("%s\n", text ? text : "{\"ok\":false}");
}

enum ctl_exit ctl_inspect(const struct ctl_arguments *arguments)
{
	struct inspect inspect = { .path = arguments->argument,
		                   .fd = -1,
		                   .format = MODEL_FORMAT_UNKNOWN };
	bool has_section;

	ctl_inspect_name(inspect.path, inspect.name, sizeof(inspect.name));
	if (inspect_open(&inspect) == 0)
		inspect_make(&inspect);
	inspect_print(&inspect, arguments->is_json);
	has_section = inspect.section != NULL;
	if (!has_section)
		(void)fprintf(stderr, "moultctl: %s: %s\n", inspect.path,
		              inspect.why.text);
	free(inspect.section);
	free(inspect.whole);
	close_fd(&inspect.fd);
	return has_section ? CTL_EXIT_OK : CTL_EXIT_FAILED;
}
