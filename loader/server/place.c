/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The port: one below those that the kernel gives to clients, so that none of them takes it before
 * the server listens. Another server may: server_place_is_taken() finds the listening socket in
 * /proc/net, and whether a process of ours holds it.
 */
#include "loader/server/place.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/descendants.h"

/* Those that the kernel gives to clients begin at 32768, where nobody has changed that. */
#define SERVER_PORT_MIN   16384
#define SERVER_PORT_COUNT 16000
#define SERVER_PORT_TRIES 256
#define SERVER_INODES_MAX 16
#define TCP_LISTEN_STATE  0x0a

/* The folder */

static int server_write_secret(int folder_fd, const struct engine_secret *secret)
{
	CLOSE_FD int fd =
		openat(folder_fd, secret->name,
	               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	const char *at = secret->value;
	size_t left = secret->value_bytes;

	while (fd >= 0 && left > 0) {
		ssize_t n = write(fd, at, left);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		left -= (size_t)n;
	}
	return fd < 0 ? -errno : 0;
}

int server_place_init(struct server_place *place, const struct engine_config *config,
                      struct err *err)
{
	CLOSE_FD int fd = -1;
	int r;

	*place = (struct server_place){ .port = config->port };
	(void)snprintf(place->folder, sizeof(place->folder), "%s", config->folder);
	(void)snprintf(place->socket, SERVER_PATH_MAX, "%s/socket", place->folder);
	(void)snprintf(place->secrets, SERVER_PATH_MAX, "%s/secrets", place->folder);
	if (mkdir(place->secrets, 0700) < 0)
		return err_set(err, -errno, "'%s' cannot be made: %s", place->secrets,
		               strerror(errno));
	fd = open(place->secrets, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < config->n_secrets; i++) {
		r = fd < 0 ? -errno : server_write_secret(fd, &config->secrets[i]);
		if (r < 0)
			return err_set(err, r,
			               "secret '%s' cannot be written into '%s': %s",
			               config->secrets[i].name, place->secrets,
			               strerror(-r));
	}
	return 0;
}

void server_place_clear(const struct server_place *place)
{
	if (*place->folder)
		server_folder_remove(place->folder);
}

void server_place_fini(struct server_place *place)
{
	server_place_clear(place);
	*place->folder = '\0';
}

/* The port */

static bool server_is_free(unsigned int port)
{
	CLOSE_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	return fd >= 0 &&
	       bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

int server_place_take_port(unsigned int *ret_port, struct err *err)
{
	for (int i = 0; i < SERVER_PORT_TRIES; i++) {
		uint16_t number = 0;

		if (getrandom(&number, sizeof(number), 0) != sizeof(number))
			break;
		*ret_port = SERVER_PORT_MIN + number % SERVER_PORT_COUNT;
		if (server_is_free(*ret_port))
			return 0;
	}
	return err_set(err, -EADDRINUSE,
	               "no port of 127.0.0.1 is free: write {socket} "
	               "instead of {port}");
}

/* Appends the inodes of sockets that listen on @port by a table of proc(5). */
static size_t server_read_listeners(const char *path, unsigned int port,
                                    unsigned long *inodes, size_t n)
{
	FILE *file = fopen(path, "re");
	char line[256];

	while (file && n < SERVER_INODES_MAX && fgets(line, sizeof(line), file)) {
		unsigned int local;
		unsigned int state;
		unsigned long inode;

		if (sscanf(line,
		           "%*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s "
		           "%*u %*u %lu",
		           &local, &state, &inode) == 3 &&
		    state == TCP_LISTEN_STATE && local == port)
			inodes[n++] = inode;
	}
	if (file)
		(void)fclose(file);
	return n;
}

/* 1: process @pid holds one of the sockets; 0: none; -1: that cannot be seen. */
static int server_holds(pid_t pid, const unsigned long *inodes, size_t n_inodes)
{
	const struct dirent *entry;
	char path[64];
	int holds = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : -1;
	while (holds == 0 && (entry = readdir(dir))) {
		unsigned long inode;
		char target[64] = "";

		if (readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1) <
		            0 ||
		    sscanf(target, "socket:[%lu]", &inode) != 1)
			continue;
		for (size_t i = 0; i < n_inodes; i++)
			holds |= inode == inodes[i];
	}
	(void)closedir(dir);
	return holds;
}

/* Names the process that holds one of the sockets, for a sentence; or says nothing. */
static void server_name_holder(const unsigned long *inodes, size_t n_inodes,
                               struct err *ret_name)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;

	(void)err_set(ret_name, 0, "whose number cannot be seen");
	while (dir && (entry = readdir(dir))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 0 && server_holds(pid, inodes, n_inodes) == 1) {
			(void)err_set(ret_name, 0, "pid %d", (int)pid);
			break;
		}
	}
	if (dir)
		(void)closedir(dir);
}

bool server_place_is_taken(const struct server_place *place, struct err *ret_who)
{
	unsigned long inodes[SERVER_INODES_MAX];
	pid_t pids[DESCENDANTS_MAX];
	struct err name;
	size_t n_inodes = 0;
	size_t n;

	if (place->port == 0)
		return false;
	n_inodes = server_read_listeners("/proc/net/tcp", place->port, inodes, n_inodes);
	n_inodes = server_read_listeners("/proc/net/tcp6", place->port, inodes, n_inodes);
	n = n_inodes > 0 ? descendants_list(pids, DESCENDANTS_MAX) : 0;
	if (n == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (server_holds(pids[i], inodes, n_inodes) != 0)
			return false;
	server_name_holder(inodes, n_inodes, &name);
	(void)err_set(
		ret_who, 0,
		"port %u is answered by another process (%s), and not by the server: "
		"the server must listen on {port} of 127.0.0.1",
		place->port, name.text);
	return true;
}
