/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A place is a folder where a model's file may lie: that of a version, or the model's own. Places
 * are tried in the order in which they would serve, and every folder that was looked at is one to
 * watch: the next file may come there.
 */
#include "supervisor/repository/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "supervisor/repository/model_config.h"
#include "supervisor/repository/pbtxt.h"

#define CONFIG_FILE     "config.pbtxt"
#define VERSION_DIGITS  9
#define VERSIONS_LOOKED 8 /* from the highest on */
#define COUNT(rows)     (sizeof(rows) / sizeof((rows)[0]))

/* Engines with the files that they read: the name in Triton's repositories, and its ending. */
static const struct folder_engine {
	const char *engine;
	const char *file;
	const char *ending;
} folder_engines[] = {
	{ "torch", "model.pt", ".pt" },
	{ "onnx", "model.onnx", ".onnx" },
	{ "onnx", "model.ort", ".ort" },
	{ "python", "model.py", NULL },
};

struct folder_reader {
	struct folder_list *list;
	const struct folder_ask *ask;
	size_t n_folders; /* that were looked into */
	struct err *err;
};

/* A model's folder while it is looked at. */
struct folder_look {
	const char *path;
	const char *name;
	bool is_alone; /* whatever its file is called */
	struct model_config config;
	bool has_config;
	const struct folder_engine *engine; /* of what was found */
	char place[PATH_MAX];
	char file[NAME_MAX + 1]; /* "": none, and it needs none */
	uint32_t version;        /* 0: the model's own folder */
};

/* Paths */

static bool folder_join(char *path, const char *folder, const char *name)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", folder, name);

	return n > 0 && n < PATH_MAX;
}

static bool folder_is(const char *folder, const char *name, mode_t type)
{
	char path[PATH_MAX];
	struct stat status;

	return folder_join(path, folder, name) && stat(path, &status) == 0 &&
	       (status.st_mode & S_IFMT) == type &&
	       (type != S_IFREG || status.st_size > 0);
}

/* A value goes into a line of its own, as it is. */
static bool folder_is_line(const char *path)
{
	for (const char *c = path; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return false;
	return true;
}

/* True: models may be called so; what may stand in a section's first line, at least. */
static bool folder_is_name(const char *name)
{
	return *name && !name[strcspn(name, "[]")] && folder_is_line(name);
}

static int folder_count(struct folder_reader *reader)
{
	if (reader->n_folders++ < FOLDER_PLACES_MAX)
		return 0;
	return err_set(reader->err, -E2BIG,
	               "%s: has more than %d folders: move what is no model elsewhere",
	               reader->ask->path, FOLDER_PLACES_MAX);
}

/* config.pbtxt */

static int folder_read_text(const char *path, char **ret_text, size_t *ret_bytes,
                            struct err *err)
{
	CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	FREE char *text = malloc(PBTXT_BYTES_MAX + 1);
	size_t used = 0;
	ssize_t n = 1;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path,
		               access_why(&(struct err)ERR_NULL, path, R_OK, errno));
	if (!text)
		return -ENOMEM;
	while (n > 0 && used <= PBTXT_BYTES_MAX) {
		n = read(fd, text + used, PBTXT_BYTES_MAX + 1 - used);
		used += n > 0 ? (size_t)n : 0;
	}
	if (n < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	*ret_text = take_ptr(&text);
	*ret_bytes = used;
	return 0;
}

static int folder_read_config(const struct folder_reader *reader,
                              struct folder_look *look)
{
	char path[PATH_MAX];
	FREE char *text = NULL;
	struct pbtxt *pbtxt = NULL;
	size_t bytes = 0;
	struct err why = ERR_NULL;
	int r;

	if (!folder_is(look->path, CONFIG_FILE, S_IFREG) ||
	    !folder_join(path, look->path, CONFIG_FILE))
		return 0;
	r = folder_read_text(path, &text, &bytes, reader->err);
	if (r < 0)
		return r;
	r = pbtxt_read(&pbtxt, text, bytes, &why);
	if (r == 0)
		r = model_config_read(&look->config, pbtxt_root(pbtxt), &why);
	pbtxt_free(pbtxt);
	if (r < 0)
		return r == -ENOMEM ? r
		                    : err_set(reader->err, r, "%s:%s", path, why.text);
	look->has_config = true;
	if (!look->is_alone && look->config.name[0] &&
	    strcmp(look->config.name, look->name) != 0)
		return err_set(reader->err, -EINVAL,
		               "%s: name: '%s' must be that of the folder, '%s'", path,
		               look->config.name, look->name);
	return 0;
}

/* Places */

/* Finds the one file in @place that ends so, for a model whose file may be called anything. 1,
 * 0 or -errno with a sentence. */
static int folder_find_ending(const struct folder_reader *reader,
                              struct folder_look *look, const char *place,
                              const char *ending)
{
	DIR *dir = opendir(place);
	const struct dirent *entry;
	int n = 0;

	while (dir && (entry = readdir(dir))) {
		size_t bytes = strlen(entry->d_name);
		size_t end = strlen(ending);

		if (entry->d_name[0] == '.' || bytes <= end ||
		    strcmp(entry->d_name + bytes - end, ending) != 0 ||
		    !folder_is(place, entry->d_name, S_IFREG))
			continue;
		if (n++ > 0) {
			(void)err_set(reader->err, -EINVAL,
			              "%s: has several models (%s, %s): leave one there, "
			              "or name it model%s",
			              place, look->file, entry->d_name, ending);
			(void)closedir(dir);
			return -EINVAL;
		}
		(void)snprintf(look->file, sizeof(look->file), "%s", entry->d_name);
	}
	if (dir)
		(void)closedir(dir);
	return n;
}

/* Whether @engine's file is in @place. 1, 0 or -errno with a sentence. */
static int folder_try_engine(const struct folder_reader *reader, struct folder_look *look,
                             const char *place, const struct folder_engine *engine)
{
	const char *file =
		look->config.filename[0] ? look->config.filename : engine->file;

	if (look->config.engine && strcmp(look->config.engine, engine->engine) != 0)
		return 0;
	/* A name of one's own says nothing of the engine: its ending, or the configuration, does. */
	if (look->config.filename[0] && !look->config.engine &&
	    (strlen(file) < 3 || strcmp(strrchr(file, '.') ? strrchr(file, '.') : "",
	                                strrchr(engine->file, '.')) != 0))
		return 0;
	if (folder_is(place, file, S_IFREG)) {
		(void)snprintf(look->file, sizeof(look->file), "%s", file);
		return 1;
	}
	return look->is_alone && engine->ending && !look->config.filename[0]
	               ? folder_find_ending(reader, look, place, engine->ending)
	               : 0;
}

/* Whether @place has a model's file. 1 with @look, 0 or -errno with a sentence. */
static int folder_try_place(struct folder_reader *reader, struct folder_look *look,
                            const char *place, uint32_t version)
{
	bool is_without =
		look->config.engine && strcmp(look->config.engine, "identity") == 0;
	int r = is_without;

	for (size_t i = 0; r == 0 && i < COUNT(folder_engines); i++) {
		r = folder_try_engine(reader, look, place, &folder_engines[i]);
		if (r > 0)
			look->engine = &folder_engines[i];
	}
	if (r > 0) {
		look->version = version;
		(void)snprintf(look->place, sizeof(look->place), "%s", place);
	}
	return r;
}

static uint32_t folder_version_of(const char *name)
{
	size_t digits = strspn(name, "0123456789");

	if (digits == 0 || digits > VERSION_DIGITS || name[digits] || name[0] == '0')
		return 0;
	return (uint32_t)strtoul(name, NULL, 10);
}

static int folder_is_version(const struct dirent *entry)
{
	return folder_version_of(entry->d_name) > 0;
}

static int folder_by_version(const struct dirent **a, const struct dirent **b)
{
	uint32_t one = folder_version_of((*a)->d_name);
	uint32_t other = folder_version_of((*b)->d_name);

	return one < other ? 1 : one > other ? -1 : 0;
}

/* Looks into the folder of one version. 1, 0 or -errno with a sentence. */
static int folder_try_version(struct folder_reader *reader, struct folder_look *look,
                              const char *name)
{
	uint32_t version = folder_version_of(name);
	char place[PATH_MAX];
	int r;

	if ((look->config.version && version != look->config.version) ||
	    !folder_is(look->path, name, S_IFDIR) ||
	    !folder_join(place, look->path, name))
		return 0;
	r = folder_count(reader);
	return r < 0 ? r : folder_try_place(reader, look, place, version);
}

static int folder_try_versions(struct folder_reader *reader, struct folder_look *look)
{
	struct dirent **entries = NULL;
	int n = scandir(look->path, &entries, folder_is_version, folder_by_version);
	int r = 0;

	for (int i = 0; i < n; i++) {
		if (r == 0 && (i < VERSIONS_LOOKED || look->config.version))
			r = folder_try_version(reader, look, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* Models */

static void folder_write_python(const struct folder_look *look, FILE *out)
{
	(void)fprintf(out, "model = %s\nworking_directory = %s\nwatch_code = yes\n",
	              look->file, look->place);
}

static void folder_write_section(const struct folder_reader *reader,
                                 const struct folder_look *look, FILE *out)
{
	const char *engine = look->engine ? look->engine->engine : look->config.engine;

	(void)fprintf(out, "engine = %s\n", engine);
	if (strcmp(engine, "python") == 0)
		folder_write_python(look, out);
	else if (look->file[0])
		(void)fprintf(out, "path = %s/%s\n", look->place, look->file);
	if (reader->ask->python &&
	    (strcmp(engine, "python") == 0 || strcmp(engine, "onnx") == 0))
		(void)fprintf(out, "python = %s\n", reader->ask->python);
	if (look->version)
		(void)fprintf(out, "version = %u\n", (unsigned int)look->version);
	if (look->config.keys)
		(void)fputs(look->config.keys, out);
}

/* Adds what @look has found. */
static int folder_add(struct folder_reader *reader, struct folder_look *look)
{
	struct folder_list *list = reader->list;
	struct folder_model *model = &list->models[list->n_models];
	char path[PATH_MAX];
	size_t bytes;
	FILE *out;

	if (!folder_join(path, look->has_config ? look->path : look->place,
	                 look->has_config ? CONFIG_FILE : look->file))
		return err_set(reader->err, -ENAMETOOLONG, "%s: the path is too long",
		               look->place);
	if (!folder_is_name(look->name) || !folder_is_line(path) ||
	    !folder_is_line(look->place))
		return err_set(reader->err, -EINVAL,
		               "%s: '%.60s' is no name of a model: allowed are A-Z a-z "
		               "0-9 _ . -",
		               reader->ask->path, look->name);
	if (list->n_models == FOLDER_MODELS_MAX)
		return err_set(reader->err, -E2BIG, "%s: has more than %d models",
		               reader->ask->path, FOLDER_MODELS_MAX);
	list->n_models++;
	model->name = strdup(look->name);
	model->origin = strdup(path);
	if (look->config.doubts && *look->config.doubts)
		model->doubts = strdup(look->config.doubts);
	out = open_memstream(&model->section, &bytes);
	if (!out || !model->name || !model->origin) {
		if (out)
			(void)fclose(out);
		return -ENOMEM;
	}
	folder_write_section(reader, look, out);
	return fclose(out) == 0 ? 0 : -ENOMEM;
}

/* Looks at a folder that may be a model. 1: it is one, and was added. */
static int folder_look_at(struct folder_reader *reader, const char *path,
                          const char *name, bool is_alone)
{
	struct folder_look look = { .path = path, .name = name, .is_alone = is_alone };
	int r = folder_count(reader);

	if (r == 0)
		r = folder_read_config(reader, &look);
	if (r == 0)
		r = folder_try_versions(reader, &look);
	if (r == 0)
		r = folder_try_place(reader, &look, path, 0);
	if (r > 0) {
		r = folder_add(reader, &look);
		r = r < 0 ? r : 1;
	}
	model_config_fini(&look.config);
	return r;
}

/* A file of the repository itself: NAME.pt, NAME.onnx. */
static int folder_look_at_file(struct folder_reader *reader, const char *file)
{
	const char *ending = strrchr(file, '.');
	struct folder_look look = { .path = reader->ask->path };
	char name[NAME_MAX + 1];

	for (size_t i = 0; ending && i < COUNT(folder_engines); i++)
		if (folder_engines[i].ending &&
		    strcmp(ending, folder_engines[i].ending) == 0)
			look.engine = &folder_engines[i];
	if (!look.engine || !folder_is(reader->ask->path, file, S_IFREG))
		return 0;
	(void)snprintf(name, sizeof(name), "%.*s", (int)(ending - file), file);
	(void)snprintf(look.place, sizeof(look.place), "%s", reader->ask->path);
	(void)snprintf(look.file, sizeof(look.file), "%s", file);
	look.name = name;
	return folder_add(reader, &look);
}

static int folder_look_at_entry(struct folder_reader *reader, const char *name)
{
	char path[PATH_MAX];
	int r;

	if (name[0] == '.' || !folder_join(path, reader->ask->path, name))
		return 0;
	if (!folder_is(reader->ask->path, name, S_IFDIR))
		return folder_look_at_file(reader, name);
	r = folder_look_at(reader, path, name, false);
	return r < 0 ? r : 0;
}

/* The whole */

/* A model's own folder in the place of a repository would be one of models called 1 and 2. */
static int folder_check_repository(const struct folder_reader *reader,
                                   struct dirent **entries, int n)
{
	const char *path = reader->ask->path;
	bool is_model = folder_is(path, CONFIG_FILE, S_IFREG) ||
	                folder_is(path, "model.py", S_IFREG);

	for (int i = 0; i < n; i++)
		is_model = is_model || (folder_version_of(entries[i]->d_name) > 0 &&
		                        folder_is(path, entries[i]->d_name, S_IFDIR));
	if (is_model)
		return err_set(reader->err, -EINVAL,
		               "%s: is a model, and no folder of models: say its name "
		               "with model_repository_name, or --model-name",
		               path);
	return 0;
}

static int folder_read_repository(struct folder_reader *reader)
{
	const char *path = reader->ask->path;
	struct dirent **entries = NULL;
	int n = scandir(path, &entries, NULL, alphasort);
	int r;

	if (n < 0)
		return err_set(reader->err, -errno, "%s: %s: name a folder of models",
		               path,
		               access_why(&(struct err)ERR_NULL, path, R_OK | X_OK,
		                          errno));
	r = folder_count(reader);
	if (r == 0)
		r = folder_check_repository(reader, entries, n);
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = folder_look_at_entry(reader, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* The folder is the model @name, or has one that is called so. */
static int folder_read_one(struct folder_reader *reader)
{
	const char *path = reader->ask->path;
	const char *name = reader->ask->name;
	char below[PATH_MAX];
	int r;

	if (access(path, R_OK | X_OK) < 0 || !folder_is(path, ".", S_IFDIR))
		return err_set(reader->err, -ENOENT, "%s: %s: name the model's folder",
		               path,
		               access_why(&(struct err)ERR_NULL, path, R_OK | X_OK,
		                          errno ? errno : ENOTDIR));
	r = folder_look_at(reader, path, name, true);
	if (r == 0 && folder_is(path, name, S_IFDIR) && folder_join(below, path, name))
		r = folder_look_at(reader, below, name, true);
	return r < 0 ? r : 0;
}

void folder_free(struct folder_list *list)
{
	if (!list)
		return;
	for (size_t i = 0; i < list->n_models; i++) {
		free(list->models[i].name);
		free(list->models[i].origin);
		free(list->models[i].section);
		free(list->models[i].doubts);
	}
	free(list);
}

int folder_read(struct folder_list **ret_list, const struct folder_ask *ask,
                struct err *err)
{
	struct folder_reader reader = { .ask = ask, .err = err };
	int r;

	reader.list = calloc(1, sizeof(*reader.list));
	if (!reader.list)
		return err_set(err, -ENOMEM, "out of memory");
	r = ask->name ? folder_read_one(&reader) : folder_read_repository(&reader);
	if (r < 0) {
		folder_free(reader.list);
		return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
	}
	*ret_list = reader.list;
	return 0;
}

/* Places */

static void folder_add_place(struct folder_places *places, const char *path)
{
	char *copy = places->n < FOLDER_PLACES_MAX ? strdup(path) : NULL;

	if (copy)
		places->paths[places->n++] = copy;
}

static void folder_find_versions(struct folder_places *places, const char *path)
{
	struct dirent **entries = NULL;
	int n = scandir(path, &entries, folder_is_version, folder_by_version);
	char place[PATH_MAX];

	folder_add_place(places, path);
	for (int i = 0; i < n; i++) {
		if (i < VERSIONS_LOOKED && folder_is(path, entries[i]->d_name, S_IFDIR) &&
		    folder_join(place, path, entries[i]->d_name))
			folder_add_place(places, place);
		free(entries[i]);
	}
	free(entries);
}

void folder_find_places(struct folder_places *places, const char *path)
{
	struct dirent **entries = NULL;
	int n = scandir(path, &entries, NULL, alphasort);
	char place[PATH_MAX];

	*places = (struct folder_places){ .n = 0 };
	folder_add_place(places, path);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;

		if (name[0] != '.' && folder_is(path, name, S_IFDIR) &&
		    folder_join(place, path, name))
			folder_find_versions(places, place);
		free(entries[i]);
	}
	free(entries);
}

void folder_places_fini(struct folder_places *places)
{
	while (places->n > 0)
		free(places->paths[--places->n]);
}
