/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The walls round a loader: what its process, and all that it starts, may reach from the moment
 * on in which the model is looked into. Made in the order of the functions.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "loader/engine.h"
#include "shared/err.h"

enum walls_mode {
	WALLS_STRICT, /* libraries, and what the engine and the section name */
	WALLS_NET,    /* the network as well */
	WALLS_OPEN,   /* files and the network, and into no other process */
	WALLS_OFF,
};

enum walls_limit {
	WALLS_LIMIT_PROCESSES = 1,
	WALLS_LIMIT_MEMORY = 2,
};

struct walls {
	struct engine_walls said; /* by the engine */
	enum walls_mode mode;
	unsigned int limits;     /* asked for, of enum walls_limit */
	unsigned int kept;       /* those that its control group keeps */
	uint64_t user_processes; /* what its own user may have */
	uid_t user;              /* whom the process is to be; 0: nobody of its own */
	bool has_driver;         /* of a GPU */
	int version;             /* of the kernel's landlock; 0: none */
	int rules;               /* -1: none */
	int self_fd;             /* of /proc/self; open until the end */
	struct err on;           /* the layers that stand: "no_new_privs, landlock" */
	struct err missing;      /* those that do not, and why; "" */
};

#define WALLS_NULL ((struct walls){ .rules = -1, .self_fd = -1 })

/* Looks at what the kernel has. @highest_version: of landlock's interface, as an older kernel has
 * it; 0: the kernel's own. */
void walls_begin(struct walls *walls, enum walls_mode mode, int highest_version);
/* The process should have become @user, which the walls note; 0: nobody of its own. */
void walls_expect_user(struct walls *walls, uid_t user);
/* The process is to be kept within a limit: @is_kept where its control group does so; where not,
 * @user_most is how many processes its own user may have. */
void walls_limit(struct walls *walls, enum walls_limit limit, uint64_t user_most,
                 bool is_kept);
/* Lets the loader read what is at or below @path, and execute it if the engine starts processes.
 * What is not there is left out. */
void walls_read(struct walls *walls, const char *path);
/* Likewise reads, makes, changes and removes. */
void walls_write(struct walls *walls, const char *path);
/* Lets it make a folder of its own go: @path, which stands to the walls as walls_write() says, and
 * any empty folder beside it. */
void walls_own(struct walls *walls, const char *path);
/* Allows what the driver of a GPU takes. */
void walls_add_device(struct walls *walls);
/* Puts them up, for good. 0 or -errno with a sentence; what the kernel lacks is no error. */
int walls_up(struct walls *walls, struct err *err);
void walls_fini(struct walls *walls);
