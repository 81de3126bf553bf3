/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/start/lacking.h"

#include <stddef.h>

#include "shared/kernel.h"
#include "shared/log.h"

/* Versions of landlock that brought a rule. */
#define LANDLOCK_PORTS   4
#define LANDLOCK_SIGNALS 6

#define ALWAYS "no_new_privs, no_core, not_dumpable, no_capabilities"

static bool lacking_has_files(const struct config_model *model)
{
	enum config_sandbox sandbox = config_sandbox(model);

	return sandbox == CONFIG_SANDBOX_STRICT || sandbox == CONFIG_SANDBOX_NET;
}

static bool lacking_has_calls(const struct config_model *model)
{
	return config_sandbox(model) != CONFIG_SANDBOX_OFF;
}

/* A server gets its own port alone. */
static bool lacking_has_ports(const struct config_model *model)
{
	return config_is_server(model) && config_sandbox(model) == CONFIG_SANDBOX_STRICT;
}

/* Engines without processes are kept from signals by seccomp. */
static bool lacking_has_processes(const struct config_model *model)
{
	return lacking_has_files(model) &&
	       (config_is_python(model) || config_is_server(model));
}

/* The first model that wants something; NULL: none does. */
static const char *lacking_first(const struct config *config,
                                 bool (*wants)(const struct config_model *model))
{
	for (size_t i = 0; i < config->n_models; i++)
		if (wants(config->models[i]))
			return config->models[i]->name;
	return NULL;
}

static void lacking_add(struct err *what, const char *model, const char *text)
{
	struct err before = *what;

	(void)err_set(what, 0, "%s%s%s (model '%s')", before.text,
	              *before.text ? "; " : "", text, model);
}

const char *lacking_standing(const struct lacking_kernel *kernel)
{
	if (kernel->landlock > 0)
		return kernel->has_seccomp ? ALWAYS ", landlock, seccomp"
		                           : ALWAYS ", landlock";
	return kernel->has_seccomp ? ALWAYS ", seccomp" : ALWAYS;
}

bool lacking_find(const struct config *config, const struct lacking_kernel *kernel,
                  struct err *ret_what)
{
	const struct {
		bool is_lacking;
		bool (*wants)(const struct config_model *model);
		const char *text;
	} rows[] = {
		{ kernel->landlock == 0, lacking_has_files,
		  "there is no landlock, or it is switched off: models read and write "
		  "what moultd's user may" },
		{ !kernel->has_seccomp, lacking_has_calls,
		  "there is no seccomp: models make any system call" },
		{ kernel->landlock > 0 && kernel->landlock < LANDLOCK_PORTS,
		  lacking_has_ports,
		  "landlock has no rules for TCP before Linux 6.7: servers connect to "
		  "any "
		  "port" },
		{ kernel->landlock > 0 && kernel->landlock < LANDLOCK_SIGNALS,
		  lacking_has_processes,
		  "landlock has no rules for signals before Linux 6.12: applications and "
		  "servers signal others of their user, but not moultd" },
	};

	*ret_what = (struct err)ERR_NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *model = lacking_first(config, rows[i].wants);

		if (rows[i].is_lacking && model)
			lacking_add(ret_what, model, rows[i].text);
	}
	return *ret_what->text;
}

void lacking_warn(const struct config *config)
{
	const struct lacking_kernel kernel = { .landlock = kernel_landlock(),
		                               .has_seccomp = kernel_has_seccomp() };
	struct err what;

	if (lacking_find(config, &kernel, &what))
		log_event(LOG_LEVEL_WARNING, "walls_lacking",
		          "landlock=%d reason=%s standing=\"%s\"", kernel.landlock,
		          LOG_QUOTED(what.text), lacking_standing(&kernel));
}
