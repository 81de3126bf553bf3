/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The configuration is written once as a file, for all that reads one (reloads by SIGHUP, status,
 * what is kept), and once to standard output, for people. What a value may be is left to the reader
 * of the file (quick_check.c).
 */
#include "supervisor/start/quick.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"

#define QUICK_LISTEN "127.0.0.1:8080"
#define QUICK_FILE   "/moult.conf"
/* Descriptors that the removal of the folder may use. */
#define QUICK_FDS 8

/* Arguments with a value. */
static const struct {
	const char *name;
	size_t at;              /* in struct quick */
	bool is_of_application; /* and of no folder of models */
} quick_arguments[] = {
	{ "wsgi", offsetof(struct quick, wsgi), true },
	{ "asgi", offsetof(struct quick, asgi), true },
	{ "model", offsetof(struct quick, model), true },
	{ "command", offsetof(struct quick, command), true },
	{ "python", offsetof(struct quick, python), false },
	{ "ready", offsetof(struct quick, ready), true },
	{ "listen", offsetof(struct quick, listen), false },
	{ "secrets", offsetof(struct quick, secrets), true },
	{ "route", offsetof(struct quick, route), true },
	{ "threads", offsetof(struct quick, threads), true },
	{ "replicas", offsetof(struct quick, replicas), true },
	{ "sandbox", offsetof(struct quick, sandbox), true },
	{ "sandbox-read", offsetof(struct quick, sandbox_read), true },
	{ "model-repository", offsetof(struct quick, repository), false },
	{ "model-name", offsetof(struct quick, model_name), false },
	{ "grpc-listen", offsetof(struct quick, grpc_listen), false },
};

#define QUICK_ARGUMENTS (sizeof(quick_arguments) / sizeof(quick_arguments[0]))

/* The value of the @i-th argument; NULL: nothing was said. */
static const char *quick_value(const struct quick *quick, size_t i)
{
	const void *at = (const char *)quick + quick_arguments[i].at;

	return *(const char *const *)at;
}

bool quick_is_asked(const struct quick *quick)
{
	for (size_t i = 0; i < QUICK_ARGUMENTS; i++)
		if (quick_value(quick, i))
			return true;
	return quick->watch_code;
}

/* A value goes into a line of its own, as it is. */
static int quick_check_value(const char *argument, const char *value, struct err *err)
{
	if (*value == '\0')
		return err_set(err, -EINVAL, "--%s: the value is empty", argument);
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return err_set(err, -EINVAL,
			               "--%s: the value has a line break or another "
			               "control character",
			               argument);
	return 0;
}

/* Returns the interpreter of the virtual environment that is there, or the one in PATH, in
 * @path of PATH_MAX. */
static const char *quick_find_python(const char *directory, char *path)
{
	static const char *const places[] = { "/.venv", "/venv" };
	const char *active = getenv("VIRTUAL_ENV");
	const char *list = getenv("PATH");

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		(void)snprintf(path, PATH_MAX, "%s%s/bin/python", directory, places[i]);
		if (access(path, X_OK) == 0)
			return path;
	}
	if (active) {
		(void)snprintf(path, PATH_MAX, "%s/bin/python", active);
		if (access(path, X_OK) == 0)
			return path;
	}
	while (list && *list) {
		size_t bytes = strcspn(list, ":");

		(void)snprintf(path, PATH_MAX, "%.*s/python3", (int)bytes, list);
		if (bytes > 0 && access(path, X_OK) == 0)
			return path;
		list += bytes + (list[bytes] == ':');
	}
	return "/usr/bin/python3";
}

/* Paths of arguments start from the working directory, those of a configuration from its own. */
static void quick_write_path(FILE *stream, const char *key, const char *directory,
                             const char *path)
{
	if (*path == '/')
		(void)fprintf(stream, "%s = %s\n", key, path);
	else
		(void)fprintf(stream, "%s = %s/%s\n", key, directory, path);
}

static void quick_write_python(const struct quick *quick, const char *directory,
                               FILE *stream)
{
	char found[PATH_MAX];

	(void)fprintf(stream, "engine = python\n");
	quick_write_path(stream, "python", directory,
	                 quick->python ? quick->python
	                               : quick_find_python(directory, found));
	if (quick->wsgi)
		(void)fprintf(stream, "wsgi = %s\n", quick->wsgi);
	if (quick->asgi)
		(void)fprintf(stream, "asgi = %s\n", quick->asgi);
	if (quick->model)
		(void)fprintf(stream, "model = %s\n", quick->model);
}

static void quick_write_server(const struct quick *quick, FILE *stream)
{
	(void)fprintf(stream, "engine = server\ncommand = %s\n", quick->command);
	if (quick->ready)
		(void)fprintf(stream, "ready = %s\n", quick->ready);
}

static void quick_write_application(const struct quick *quick, const char *directory,
                                    FILE *stream)
{
	(void)fprintf(stream, "\n[model app]\n");
	if (quick->command)
		quick_write_server(quick, stream);
	else
		quick_write_python(quick, directory, stream);
	(void)fprintf(stream, "working_directory = %s\nroute = %s\n", directory,
	              quick->route ? quick->route : "/");
	if (quick->threads)
		(void)fprintf(stream, "threads = %s\n", quick->threads);
	if (quick->replicas)
		(void)fprintf(stream, "replicas = %s\n", quick->replicas);
	if (quick->secrets)
		quick_write_path(stream, "secrets", directory, quick->secrets);
	if (quick->sandbox)
		(void)fprintf(stream, "sandbox = %s\n", quick->sandbox);
	if (quick->sandbox_read)
		quick_write_path(stream, "sandbox_read", directory, quick->sandbox_read);
	if (quick->watch_code)
		(void)fprintf(stream, "watch_code = yes\n");
}

static void quick_write_repository(const struct quick *quick, const char *directory,
                                   FILE *stream)
{
	char found[PATH_MAX];

	quick_write_path(stream, "model_repository", directory, quick->repository);
	quick_write_path(stream, "model_repository_python", directory,
	                 quick->python ? quick->python
	                               : quick_find_python(directory, found));
	if (quick->model_name)
		(void)fprintf(stream, "model_repository_name = %s\n", quick->model_name);
}

/* A folder of models says itself what each of them is. */
static int quick_check_repository(const struct quick *quick, struct err *err)
{
	const char *other = quick->watch_code ? "watch-code" : NULL;

	for (size_t i = 0; i < QUICK_ARGUMENTS; i++)
		if (quick_arguments[i].is_of_application && quick_value(quick, i))
			other = quick_arguments[i].name;
	if (!other)
		return 0;
	return err_set(err, -EINVAL,
	               "--%s is for one application, and --model-repository serves what "
	               "lies in a folder: say one of them",
	               other);
}

/* Whether the arguments go together. */
static int quick_check(const struct quick *quick, struct err *err)
{
	int n = !!quick->wsgi + !!quick->asgi + !!quick->model + !!quick->command;

	if (quick->repository)
		return quick_check_repository(quick, err);
	if (quick->model_name)
		return err_set(err, -EINVAL,
		               "--model-name is for --model-repository: leave it out");
	if (n == 0)
		return err_set(err, -EINVAL,
		               "there is nothing to serve: say --wsgi MODULE:APP, --asgi "
		               "MODULE:APP, --model MODULE:CLASS, --command 'PROGRAM ... "
		               "{port}' or --model-repository DIRECTORY, or name a "
		               "configuration with -c");
	if (n > 1)
		return err_set(
			err, -EINVAL,
			"one thing is served: say one of --wsgi, --asgi, --model and "
			"--command");
	if (quick->command && quick->python)
		return err_set(
			err, -EINVAL,
			"--python is for applications and classes: leave it out, and "
			"name the interpreter in --command");
	if (!quick->command && quick->ready)
		return err_set(err, -EINVAL, "--ready is for --command: leave it out");
	return 0;
}

int quick_write(const struct quick *quick, const char *directory, const char *folder,
                FILE *stream, struct err *err)
{
	int r = quick_check(quick, err);

	for (size_t i = 0; r == 0 && i < QUICK_ARGUMENTS; i++)
		if (quick_value(quick, i))
			r = quick_check_value(quick_arguments[i].name,
			                      quick_value(quick, i), err);
	if (r == 0 && strpbrk(directory, "\r\n"))
		r = err_set(err, -EINVAL,
		            "the working directory's name has a line break");
	if (r < 0)
		return r;
	(void)fprintf(stream, "[supervisor]\nlisten = %s\n",
	              quick->listen ? quick->listen : QUICK_LISTEN);
	if (quick->grpc_listen)
		(void)fprintf(stream, "grpc_listen = %s\n", quick->grpc_listen);
	/* Whoever types this as root, as in a container, means it. */
	if (quick->is_root)
		(void)fprintf(stream, "# An ordinary user here takes root's rights from "
		                      "what is served.\nuser = root\n");
	if (folder)
		(void)fprintf(stream, "control = %s/moultd.sock\nstate_dir = %s/state\n",
		              folder, folder);
	if (quick->repository)
		quick_write_repository(quick, directory, stream);
	else
		quick_write_application(quick, directory, stream);
	return 0;
}

/* Makes a folder that nobody else can enter; the caller frees the path. */
static int quick_make_folder(char **ret_folder, struct err *err)
{
	const char *places[] = { getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp" };

	*ret_folder = NULL;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char *folder = NULL;

		if (!places[i] || places[i][0] != '/')
			continue;
		if (asprintf(&folder, "%s/moult-XXXXXX", places[i]) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		if (mkdtemp(folder)) {
			*ret_folder = folder;
			return 0;
		}
		(void)err_set(err, -errno, "no folder can be made in %s: %s", places[i],
		              strerror(errno));
		free(folder);
	}
	return -EACCES;
}

/* Writes the configuration into @file. */
static int quick_make_file(const struct quick *quick, const char *folder,
                           const char *file, struct err *err)
{
	char directory[PATH_MAX];
	CLOSE_FD int fd = -1;
	FILE *stream;
	int r;

	if (!getcwd(directory, sizeof(directory)))
		return err_set(err, -errno, "the working directory is not there: %s",
		               strerror(errno));
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	stream = fd < 0 ? NULL : fdopen(fd, "w");
	if (!stream)
		return err_set(err, -errno, "%s cannot be written: %s", file,
		               strerror(errno));
	(void)take_fd(&fd);
	r = quick_write(quick, directory, folder, stream, err);
	if (fclose(stream) != 0 && r == 0)
		r = err_set(err, -EIO, "%s cannot be written", file);
	return r;
}

void quick_show(const struct quick *quick, const char *file)
{
	char directory[PATH_MAX];

	if (!getcwd(directory, sizeof(directory)))
		return;
	(void)printf("# This is served, and can be kept: moultd -c moult.conf\n"
	             "# To talk to it: moultctl -s %.*s/moultd.sock status\n",
	             (int)(strlen(file) - strlen(QUICK_FILE)), file);
	(void)quick_write(quick, directory, NULL, stdout, NULL);
	(void)printf("\n");
	(void)fflush(stdout);
}

int quick_begin(const struct quick *quick, char **ret_file, struct err *err)
{
	FREE char *folder = NULL;
	int r = quick_make_folder(&folder, err);

	*ret_file = NULL;
	if (r < 0)
		return r;
	if (asprintf(ret_file, "%s" QUICK_FILE, folder) < 0) {
		*ret_file = NULL;
		(void)rmdir(folder);
		return err_set(err, -ENOMEM, "out of memory");
	}
	return quick_make_file(quick, folder, *ret_file, err);
}

static int quick_remove(const char *path, const struct stat *status, int kind,
                        struct FTW *where)
{
	(void)status;
	(void)kind;
	(void)where;
	/* What cannot be removed stays. */
	(void)remove(path);
	return 0;
}

void quick_end(char *file)
{
	if (!file)
		return;
	file[strlen(file) - strlen(QUICK_FILE)] = '\0';
	(void)nftw(file, quick_remove, QUICK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	free(file);
}
