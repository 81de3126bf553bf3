/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/spares/grave.h"

#include <signal.h>
#include <stddef.h>

static void grave_on_exit(void *context, int status)
{
	struct grave *grave = context;

	(void)status;
	device_remove(&grave->use);
}

static void grave_on_line(void *context, const char *line)
{
	(void)context;
	(void)line;
}

void graves_init(struct graves *graves, struct device *device)
{
	graves->device = device;
	for (size_t i = 0; i < GRAVES_MAX; i++)
		child_init(&graves->rows[i].child);
}

void graves_bury(struct graves *graves, struct child *child)
{
	pid_t pid = child->pid;

	if (pid == 0) {
		child_fini(child);
		return;
	}
	child_signal(child, SIGKILL);
	for (size_t i = 0; i < GRAVES_MAX; i++) {
		struct grave *grave = &graves->rows[i];

		if (grave->child.pid != 0)
			continue;
		grave->listener = (struct child_listener){
			.on_exit = grave_on_exit,
			.on_line = grave_on_line,
			.context = grave,
		};
		child_move(&grave->child, child, &grave->listener);
		device_add(graves->device, &grave->use, pid, 0);
		grave->use.is_leaving = true;
		return;
	}
	child_fini(child); /* blocks: children do not end as they should */
}

void graves_fini(struct graves *graves)
{
	for (size_t i = 0; i < GRAVES_MAX; i++) {
		child_fini(&graves->rows[i].child);
		device_remove(&graves->rows[i].use);
	}
}
