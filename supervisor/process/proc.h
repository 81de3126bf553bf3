/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Figures of proc(5) for one process. Each call reads a few small files: microseconds.
 * A figure may be outdated when it is returned; and a process that is nobody's unreaped
 * child may have made room for another one with its number.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* TASK_COMM_LEN of Linux, the terminator included. */
#define PROC_COMM_MAX 16

struct proc {
	pid_t pid;
	pid_t parent;
	pid_t group;
	pid_t session;
	char state; /* 'R', 'S', 'D', 'T', 'Z' and so on: the first thread's */
	unsigned int threads;
	char comm[PROC_COMM_MAX];
	uint64_t cpu_ticks;   /* of all its threads, so far */
	uint64_t start_ticks; /* since the boot: identifies it, with pid */
};

/* Reads one process. False: there is none of that number. */
bool proc_read(pid_t pid, struct proc *ret_proc);
/* True: no thread runs and no memory is held. A first thread may end before the
 * others. */
bool proc_is_dead(const struct proc *proc);
/* Children of all threads of @pid. Returns how many, at most @max; more may exist. */
size_t proc_children(pid_t pid, pid_t *ret_pids, size_t max);
/* Nanoseconds that the living threads of @pid, and of the processes below it, have waited for a
 * processor while they could have run. 0 also where the kernel does not count that. */
uint64_t proc_waited_ns(pid_t pid);
/* True: @pid descends from this process. False also when it is gone, or cannot be seen. */
bool proc_is_below(pid_t pid);
/* The user whom @pid is, whoever has its files in /proc; 0: root, or not to be seen. */
uid_t proc_user(pid_t pid);
/* True: @pid was started with "NAME=VALUE" in its environment. */
bool proc_has_variable(pid_t pid, const char *variable);
/* Value of @name in that environment. False: not there, or longer than @size allows. */
bool proc_get_variable(pid_t pid, const char *name, char *value, size_t size);
/* True: @pid counts processes and time as this process does (pid_namespaces(7),
 * time_namespaces(7)). False also where that cannot be seen. */
bool proc_has_our_numbers(pid_t pid);
/* Kills @proc as it was read, never another process that has its number now, and reads
 * it again. False: it is gone, or may not be killed. */
bool proc_kill(struct proc *proc);
