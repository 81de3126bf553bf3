/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Names in a package, below a folder that is called after its file:
 *
 *	data/aotinductor/MODEL/X.wrapper.so             (torch 2.6: X.so)
 *	data/aotinductor/MODEL/X.wrapper.cpp            (X.cpp)
 *	data/aotinductor/MODEL/X.wrapper_metadata.json  (X_metadata.json)
 *	data/aotinductor/MODEL/X.wrapper.json           operators for torch's C++ (X.json)
 *	data/aotinductor/MODEL/X_weights.blob
 *	data/aotinductor/MODEL/weights_config.json
 *	data/weights/weight_0                           of torch.save: a zip archive itself
 *
 * What a package was compiled for is in its metadata, and in the head of its shared object. Both
 * are compared with this machine before any of the code is mapped: an instruction that the
 * processor lacks would end the process.
 */
#include "loader/aoti/package.h"

#include <elf.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "loader/engine.h"
#include "shared/model_format.h"
#include "shared/zip.h"

#define PACKAGE_CODE    "data/aotinductor/"
#define PACKAGE_WEIGHTS "data/weights/"

#define PACKAGE_WEIGHTS_MAX 65536

static size_t package_read(void *context, uint64_t at, void *buffer, size_t bytes)
{
	const struct package_part *part = context;

	if (at >= part->bytes)
		return 0;
	if (bytes > part->bytes - at)
		bytes = part->bytes - (size_t)at;
	memcpy(buffer, part->data + at, bytes);
	return bytes;
}

/* Finds the bytes of @entry of the archive @whole. False: they are compressed, or not there. */
static bool package_take_part(struct package_part *whole, const struct zip_entry *entry,
                              struct package_part *ret_part)
{
	const struct model_file file = { package_read, whole, whole->bytes };
	uint64_t at = zip_find_data(&file, entry->at);

	if (at == 0 || entry->method != ZIP_STORED || at > whole->bytes ||
	    entry->bytes > whole->bytes - at)
		return false;
	*ret_part = (struct package_part){ whole->data + at, (size_t)entry->bytes };
	return true;
}

static bool package_ends(const char *name, const char *end)
{
	size_t bytes = strlen(name);
	size_t n = strlen(end);

	return bytes >= n && strcmp(name + bytes - n, end) == 0;
}

static void package_note_weight(struct package *package, const char *name,
                                const struct zip_entry *entry)
{
	struct package_weight *rows;
	struct package_weight row = { .name = "" };

	if (package->n_weights >= PACKAGE_WEIGHTS_MAX ||
	    strlen(name) >= sizeof(row.name) ||
	    !package_take_part(&package->all, entry, &row.part)) {
		package->is_bad = true;
		return;
	}
	memcpy(row.name, name, strlen(name));
	rows = realloc(package->weights, (package->n_weights + 1) * sizeof(*rows));
	if (!rows) {
		package->is_bad = true;
		return;
	}
	rows[package->n_weights] = row;
	package->weights = rows;
	package->n_weights++;
}

static void package_note_code(struct package *package, const char *name,
                              const struct zip_entry *entry)
{
	struct package_part *part = NULL;

	if (package_ends(name, ".so"))
		part = &package->library;
	else if (strcmp(name, "weights_config.json") == 0)
		part = &package->layout;
	else if (package_ends(name, "kernel_metadata.json") ||
	         strcmp(name, "custom_objs_config.json") == 0)
		return;
	else if (package_ends(name, "_metadata.json"))
		part = &package->metadata;
	else if (package_ends(name, ".cpp") && !package_ends(name, "kernel.cpp"))
		part = &package->source;
	else if (package_ends(name, "_weights.blob"))
		package->has_blob = true;
	else if (package_ends(name, ".json"))
		package->has_operators = true;
	if (part && !package_take_part(&package->all, entry, part))
		package->is_bad = true;
}

static void package_on_entry(void *context, const struct zip_entry *entry)
{
	struct package *package = context;
	const char *code = strstr(entry->name, PACKAGE_CODE);
	const char *weight = strstr(entry->name, PACKAGE_WEIGHTS);
	size_t bytes;

	if (!code && weight) {
		package_note_weight(package, weight + strlen(PACKAGE_WEIGHTS), entry);
		return;
	}
	if (!code)
		return;
	code += strlen(PACKAGE_CODE);
	bytes = strcspn(code, "/");
	if (code[bytes] != '/' || bytes >= sizeof(package->model))
		return;
	if (package->want &&
	    (strlen(package->want) != bytes || memcmp(package->want, code, bytes) != 0))
		return;
	memcpy(package->model, code, bytes);
	package->model[bytes] = '\0';
	package_note_code(package, code + bytes + 1, entry);
}

/* Which models there are */

struct package_models {
	char names[256]; /* "a, b" */
	char first[PACKAGE_NAME_MAX];
	size_t n;
	bool has_model; /* one is called so */
};

/* Each model has one library. */
static void package_on_model(void *context, const struct zip_entry *entry)
{
	struct package_models *models = context;
	const char *code = strstr(entry->name, PACKAGE_CODE);
	size_t used = strlen(models->names);
	int bytes;

	if (!code || !package_ends(entry->name, ".so"))
		return;
	code += strlen(PACKAGE_CODE);
	bytes = (int)strcspn(code, "/");
	if (models->n++ == 0)
		(void)snprintf(models->first, sizeof(models->first), "%.*s", bytes, code);
	models->has_model |= bytes == 5 && memcmp(code, "model", 5) == 0;
	(void)snprintf(models->names + used, sizeof(models->names) - used, "%s%.*s",
	               used ? ", " : "", bytes, code);
}

static int package_choose(const struct package_models *models, const char *model,
                          const char **ret_want, struct err *err)
{
	*ret_want = model ? model : models->has_model ? "model" : models->first;
	if (models->n == 0)
		return err_set(err, ENGINE_E_MODEL,
		               "it has no compiled code: compile it with "
		               "torch._inductor.aoti_compile_and_package("
		               "torch.export.load(\"m.pt2\"), "
		               "package_path=\"compiled.pt2\")");
	if (!model && models->n > 1 && !models->has_model)
		return err_set(err, ENGINE_E_CONFIG,
		               "the package has several models (%s): name one, as in "
		               "option.model = %s",
		               models->names, models->first);
	return 0;
}

static int package_check(const struct package *package,
                         const struct package_models *models, struct err *err)
{
	if (package->is_bad)
		return err_set(err, ENGINE_E_MODEL,
		               "the package is damaged, or was packed anew with "
		               "compression: copy it again as torch has written it");
	if (!package->library.data)
		return err_set(err, ENGINE_E_CONFIG,
		               "the package has no model '%s', but %s: set option.model",
		               package->want, models->names);
	return 0;
}

int package_open(struct package *package, const void *data, size_t bytes,
                 const char *model, struct err *err)
{
	struct package_models models = { .names = "" };
	struct model_file file;
	int r;

	*package = (struct package){ .all = { data, bytes } };
	file = (struct model_file){ package_read, &package->all, bytes };
	if (model_format_check_aoti(&file, err))
		return ENGINE_E_MODEL;
	if (zip_list(&file, package_on_model, &models))
		return err_set(
			err, ENGINE_E_MODEL,
			"the archive's directory is damaged, or of an archive over "
			"4 GiB, which cannot be served yet: copy it again, or "
			"compile the model in parts");
	r = package_choose(&models, model, &package->want, err);
	if (r)
		return r;
	(void)zip_list(&file, package_on_entry, package);
	r = package_check(package, &models, err);
	package->want = NULL;
	return r;
}

/* Weights */

/* torch.save has the bytes of a tensor in the record data/0. */
static void package_on_tensor(void *context, const struct zip_entry *entry)
{
	struct package_part *parts = context;

	if (package_ends(entry->name, "/data/0") &&
	    !package_take_part(&parts[0], entry, &parts[1]))
		parts[1].data = NULL;
}

bool package_find_weight(const struct package *package, const char *name,
                         struct package_part *ret_part)
{
	struct package_part parts[2] = { 0 };
	struct model_file file;
	size_t i = 0;

	while (i < package->n_weights && strcmp(package->weights[i].name, name) != 0)
		i++;
	if (i == package->n_weights)
		return false;
	parts[0] = package->weights[i].part;
	file = (struct model_file){ package_read, &parts[0], parts[0].bytes };
	if (zip_list(&file, package_on_tensor, parts) || !parts[1].data)
		return false;
	*ret_part = parts[1];
	return true;
}

/* The machine */

#define PACKAGE_REMEDY "compile it anew on a machine of the kind that serves it"

#if defined(__x86_64__)
#define PACKAGE_ELF EM_X86_64
#elif defined(__aarch64__)
#define PACKAGE_ELF EM_AARCH64
#else
#define PACKAGE_ELF EM_NONE
#endif

/* Whether all that the linker maps lies in the object: beyond its end a page is none. */
static bool package_has_segments(const struct package_part *part, const Elf64_Ehdr *head)
{
	uint64_t table = (uint64_t)head->e_phnum * sizeof(Elf64_Phdr);

	if (head->e_phentsize != sizeof(Elf64_Phdr) || head->e_phnum == 0 ||
	    table > part->bytes || head->e_phoff > part->bytes - table)
		return false;
	for (size_t i = 0; i < head->e_phnum; i++) {
		Elf64_Phdr row;

		memcpy(&row, part->data + head->e_phoff + i * sizeof(row), sizeof(row));
		if (row.p_type != PT_NULL && (row.p_filesz > part->bytes ||
		                              row.p_offset > part->bytes - row.p_filesz))
			return false;
	}
	return true;
}

static int package_check_elf(const struct package *package, struct err *err)
{
	Elf64_Ehdr head;

	if (package->library.bytes < sizeof(head))
		return err_set(err, ENGINE_E_MODEL,
		               "its shared object is cut off: copy the package again");
	memcpy(&head, package->library.data, sizeof(head));
	if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
		return err_set(err, ENGINE_E_MODEL,
		               "what it has in the place of a shared object is none for "
		               "Linux: compile it on Linux");
	if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != PACKAGE_ELF ||
	    head.e_type != ET_DYN)
		return err_set(err, ENGINE_E_MODEL,
		               "its code is for another kind of processor (ELF machine "
		               "%u): " PACKAGE_REMEDY,
		               head.e_machine);
	if (!package_has_segments(&package->library, &head))
		return err_set(err, ENGINE_E_MODEL,
		               "its shared object is cut off: copy the package again");
	return 0;
}

/* What @isa, as torch names it, needs and this processor lacks; NULL: nothing. */
static const char *package_lacks(const char *isa)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (strstr(isa, "AVX512") &&
	    !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
	      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")))
		return "AVX512";
	if (strstr(isa, "AVX2") &&
	    !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
		return "AVX2";
#else
	(void)isa;
#endif
	return NULL;
}

static int package_check_metadata(json_t *metadata, const char *device, struct err *err)
{
	const char *key = "";
	const char *platform = "linux";
	const char *machine = NULL;
	const char *isa = "";
	struct utsname own;
	const char *lacks;

	(void)json_unpack(metadata, "{s?s, s?s, s?s, s?s}", "AOTI_DEVICE_KEY", &key,
	                  "AOTI_PLATFORM", &platform, "AOTI_MACHINE", &machine,
	                  "AOTI_CPU_ISA", &isa);
	if (*key && strcmp(key, device) != 0)
		return err_set(err, ENGINE_E_MODEL,
		               "it was compiled for device %s, and is to run on %s: "
		               "compile it anew from the model on %s",
		               key, device, device);
	if (strcmp(platform, "linux") != 0)
		return err_set(err, ENGINE_E_MODEL,
		               "it was compiled for %s: compile it anew on Linux",
		               platform);
	if (machine && uname(&own) == 0 && strcmp(machine, own.machine) != 0)
		return err_set(
			err, ENGINE_E_MODEL,
			"it was compiled for %s, and this machine is %s: " PACKAGE_REMEDY,
			machine, own.machine);
	lacks = package_lacks(isa);
	return lacks ? err_set(err, ENGINE_E_MODEL,
	                       "its code needs %s (%s), which this processor "
	                       "lacks: " PACKAGE_REMEDY
	                       ", or with ATEN_CPU_CAPABILITY set to "
	                       "what that has",
	                       lacks, isa)
	             : 0;
}

int package_check_machine(const struct package *package, const char *device,
                          struct err *err)
{
	json_t *metadata = package->metadata.data
	                           ? json_loadb((const char *)package->metadata.data,
	                                        package->metadata.bytes, 0, NULL)
	                           : NULL;
	int r = 0;

	if (package->metadata.data && !metadata)
		return err_set(err, ENGINE_E_MODEL,
		               "its metadata is damaged: copy the package again");
	if (metadata)
		r = package_check_metadata(metadata, device, err);
	json_decref(metadata);
	return r ? r : package_check_elf(package, err);
}

void package_fini(struct package *package)
{
	free(package->weights);
	*package = (struct package)PACKAGE_NULL;
}
