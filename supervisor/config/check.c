/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The forms of single values: a check for each, which the rows of keys.c name. A check that fails
 * quotes the value, cut, and says what is allowed. config_list_next() is how every list of texts is
 * read.
 */
#include "supervisor/config/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "shared/command.h"
#include "shared/ready.h"
#include "supervisor/config/config.h"

#define NAME_BYTES_MAX ((size_t)CONFIG_NAME_MAX - 1)
/* Requests that a server gets at once where nobody says: it has a queue of its own. */
#define SERVER_THREADS 64

bool config_is_name(const char *text)
{
	size_t bytes = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	                            "0123456789_.-");

	return bytes > 0 && bytes <= NAME_BYTES_MAX && text[bytes] == '\0' &&
	       text[0] != '.' && text[0] != '-';
}

int config_check_name(const char *text, struct err *err)
{
	if (config_is_name(text))
		return 0;
	return err_set(
		err, -EINVAL,
		"'%.80s' is no name: allowed are 1 to %zu of A-Z a-z 0-9 _ . - and "
		"no dot or dash in front",
		text, NAME_BYTES_MAX);
}

/* @max has at most five digits. */
static bool is_number_up_to(const char *text, unsigned long max)
{
	size_t digits = strspn(text, "0123456789");

	return digits > 0 && digits <= 5 && text[digits] == '\0' &&
	       strtoul(text, NULL, 10) <= max;
}

/* "FIRST-LAST" */
static bool parse_users(const char *text, struct config_users *ret_users)
{
	char again[2 * sizeof("4294967295")];
	struct config_users users;

	if (sscanf(text, "%" SCNu32 "-%" SCNu32, &users.first, &users.last) != 2)
		return false;
	/* sscanf() takes blanks, signs and a tail: only an exact print counts. */
	(void)snprintf(again, sizeof(again), "%" PRIu32 "-%" PRIu32, users.first,
	               users.last);
	*ret_users = users;
	return strcmp(again, text) == 0;
}

int config_check_users(const char *text, struct err *err)
{
	struct config_users users;

	/* (uid_t)-1 means nobody, and -2 is what some programs take for it. */
	if (parse_users(text, &users) && users.first > 0 && users.first <= users.last &&
	    users.last < UINT32_MAX - 1 &&
	    users.last - users.first >= CONFIG_MODELS_MAX - 1)
		return 0;
	return err_set(err, -EINVAL,
	               "'%.80s' is no range of users: for instance 700000-799999; of at "
	               "least %d, none of which is anybody else's",
	               text, CONFIG_MODELS_MAX);
}

bool config_users(const struct config *config, struct config_users *ret_users)
{
	return config->loader_users && parse_users(config->loader_users, ret_users);
}

uint32_t config_user_of(const struct config *config, const char *model)
{
	uint32_t hash = UINT32_C(2166136261); /* FNV-1a */
	struct config_users users;

	if (!config_users(config, &users))
		return 0;
	for (const char *c = model; *c; c++)
		hash = (hash ^ (unsigned char)*c) * UINT32_C(16777619);
	return users.first + hash % (users.last - users.first + 1);
}

/* "cuda:GPU-" and 8-4-4-4-12 hexadecimal digits. */
static bool is_gpu_uuid(const char *text)
{
	static const char pattern[] = "cuda:GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	if (strlen(text) != sizeof(pattern) - 1)
		return false;
	for (size_t i = 0; pattern[i]; i++)
		if (pattern[i] == 'x' ? !strchr("0123456789abcdef", text[i])
		                      : text[i] != pattern[i])
			return false;
	return true;
}

int config_check_device(const char *text, struct err *err)
{
	if (strcmp(text, "cpu") == 0 || strcmp(text, "cuda") == 0)
		return 0;
	if (strncmp(text, "cuda:", 5) == 0 && is_number_up_to(text + 5, 63))
		return 0;
	if (is_gpu_uuid(text))
		return 0;
	return err_set(err, -EINVAL,
	               "'%.80s' is no device: allowed are cpu, cuda, cuda:0 to cuda:63 "
	               "and cuda:GPU-UUID as nvidia-smi -L prints it",
	               text);
}

int config_check_socket(const char *text, struct err *err)
{
	size_t limit = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	if (strlen(text) <= limit)
		return 0;
	return err_set(
		err, -EINVAL,
		"the path has %zu bytes, but a unix socket's at most %zu: choose a "
		"shorter one",
		strlen(text), limit);
}

int config_check_access_log(const char *text, struct err *err)
{
	if (strcmp(text, "off") == 0 || strcmp(text, "stderr") == 0 || text[0] == '/')
		return 0;
	return err_set(err, -EINVAL, "must be off, stderr or a path that begins with /");
}

int config_check_listen(const char *text, struct err *err)
{
	struct in6_addr binary;
	char host[INET6_ADDRSTRLEN];
	const char *colon = strrchr(text, ':');
	size_t bytes = colon ? (size_t)(colon - text) : 0;
	int family = AF_INET;

	if (strcmp(text, "systemd") == 0)
		return 0;
	if (bytes >= 2 && text[0] == '[' && colon[-1] == ']') {
		family = AF_INET6;
		text++;
		bytes -= 2;
	}
	if (bytes > 0 && bytes < sizeof(host)) {
		memcpy(host, text, bytes);
		host[bytes] = '\0';
		if (inet_pton(family, host, &binary) == 1 &&
		    is_number_up_to(colon + 1, 65535))
			return 0;
	}
	return err_set(
		err, -EINVAL,
		"'%.80s' is no address: allowed are ADDRESS:PORT and [ADDRESS]:PORT "
		"in numbers, for instance 127.0.0.1:8080 or [::]:8080, and systemd",
		family == AF_INET6 ? text - 1 : text);
}

int config_check_own_listen(const char *text, struct err *err)
{
	if (strcmp(text, "systemd") == 0)
		return err_set(err, -EINVAL,
		               "a socket unit hands over one listener, which is that of "
		               "listen: write ADDRESS:PORT, for instance 127.0.0.1:8081");
	return config_check_listen(text, err);
}

bool config_model_is_doubtful(const struct config_model *model, struct err *err)
{
	double stall_s = (double)model->stall_timeout_ns / 1e9;
	double request_s = (double)model->request_timeout_ns / 1e9;

	if (model->doubts) {
		(void)err_set(err, 0, "%s", model->doubts);
		return true;
	}
	if (model->stall_timeout_ns >= model->request_timeout_ns)
		return false;
	(void)err_set(
		err, 0,
		"stall_timeout (%.4g s) is shorter than request_timeout (%.4g s): a "
		"request that takes longer to compute counts as a stall, which costs "
		"the loader its life and, after two of them, the request a 500; set "
		"stall_timeout to at least request_timeout",
		stall_s, request_s);
	return true;
}

bool config_list_next(const char **cursor, const char **ret_text, size_t *ret_bytes)
{
	const char *text = *cursor + strspn(*cursor, " \t,");
	size_t bytes = strcspn(text, ",");

	*cursor = text + bytes;
	while (bytes > 0 && strchr(" \t", text[bytes - 1]))
		bytes--;
	*ret_text = text;
	*ret_bytes = bytes;
	return bytes > 0;
}

size_t config_route_match(const char *routes, const char *path, size_t path_bytes)
{
	const char *cursor = routes;
	const char *one;
	size_t longest = 0;
	size_t bytes;

	while (config_list_next(&cursor, &one, &bytes)) {
		bool is_below = bytes <= path_bytes && memcmp(one, path, bytes) == 0;
		bool is_itself =
			bytes == path_bytes + 1 && memcmp(one, path, path_bytes) == 0;

		if ((is_below || is_itself) && bytes > longest)
			longest = bytes;
	}
	return longest;
}

static bool is_host(const char *name, size_t bytes)
{
	char text[256];

	if (bytes >= 2 && strncmp(name, "*.", 2) == 0) {
		name += 2;
		bytes -= 2;
	}
	if (bytes == 0 || bytes >= sizeof(text))
		return false;
	memcpy(text, name, bytes);
	text[bytes] = '\0';
	return text[0] != '.' && text[bytes - 1] != '.' && !strstr(text, "..") &&
	       text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                         "0123456789-_.")] == '\0';
}

int config_check_hosts(const char *text, struct err *err)
{
	const char *cursor = text;
	const char *one;
	size_t bytes;

	if (text[strspn(text, " \t,")] == '\0')
		return err_set(err, -EINVAL,
		               "there is no name in it: for instance moult.example");
	while (config_list_next(&cursor, &one, &bytes))
		if (!is_host(one, bytes))
			return err_set(err, -EINVAL,
			               "'%.*s' is no name of a host: for instance "
			               "moult.example or *.example, without scheme, port "
			               "and path; or any",
			               (int)(bytes < 80 ? bytes : 80), one);
	return 0;
}

static bool is_range(const char *one, size_t bytes)
{
	char text[INET6_ADDRSTRLEN + 8];
	struct in6_addr binary;
	char *slash;
	bool is_four;

	if (bytes >= sizeof(text))
		return false;
	memcpy(text, one, bytes);
	text[bytes] = '\0';
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	is_four = !strchr(text, ':');
	return inet_pton(is_four ? AF_INET : AF_INET6, text, &binary) == 1 &&
	       (!slash || is_number_up_to(slash + 1, is_four ? 32 : 128));
}

int config_check_proxies(const char *text, struct err *err)
{
	const char *cursor = text;
	const char *one;
	size_t bytes;

	if (text[strspn(text, " \t,")] == '\0')
		return err_set(err, -EINVAL,
		               "there is no address in it: for instance 10.0.0.0/8");
	while (config_list_next(&cursor, &one, &bytes))
		if (!is_range(one, bytes))
			return err_set(
				err, -EINVAL,
				"'%.*s' is no address: allowed are ADDRESS and "
				"ADDRESS/BITS in numbers, for instance 10.0.0.0/8 or "
				"2001:db8::/32",
				(int)(bytes < 80 ? bytes : 80), one);
	return 0;
}

static bool starts_with(const char *text, size_t bytes, const char *prefix)
{
	return bytes >= strlen(prefix) && memcmp(text, prefix, strlen(prefix)) == 0;
}

/* Whether requests for @text, which ends with a slash, would be moult's own. */
static bool is_reserved(const char *text, size_t bytes)
{
	return starts_with(text, bytes, "/v2/") || starts_with(text, bytes, "/metrics/");
}

int config_check_route(const char *text, struct err *err)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789-._~!$&'()*+;=:@/";
	const char *cursor = text;
	const char *one;
	size_t bytes;

	if (text[strspn(text, " \t,")] == '\0')
		return err_set(err, -EINVAL,
		               "there is no prefix in it: for instance /app/");
	while (config_list_next(&cursor, &one, &bytes)) {
		char prefix[256];

		if (bytes >= sizeof(prefix))
			return err_set(err, -EINVAL, "'%.80s' is longer than %zu bytes",
			               one, sizeof(prefix) - 1);
		memcpy(prefix, one, bytes);
		prefix[bytes] = '\0';
		if (prefix[0] != '/' || prefix[bytes - 1] != '/' ||
		    strstr(prefix, "//") || strstr(prefix, "/./") ||
		    strstr(prefix, "/../") || prefix[strspn(prefix, allowed)] != '\0')
			return err_set(
				err, -EINVAL,
				"'%.80s' is no prefix of paths: one begins and ends "
				"with /, such as /app/, and has no %%, no query and "
				"no //, /./ or /../",
				prefix);
		if (is_reserved(prefix, bytes))
			return err_set(err, -EINVAL,
			               "'%.80s' is moult's own: choose another prefix",
			               prefix);
	}
	return 0;
}

int config_check_methods(const char *text, struct err *err)
{
	const char *cursor = text;
	const char *one;
	size_t bytes;

	while (config_list_next(&cursor, &one, &bytes))
		if (strspn(one, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") < bytes || bytes > 15)
			return err_set(err, -EINVAL,
			               "'%.*s' is no method: for instance POST, PATCH",
			               (int)(bytes < 80 ? bytes : 80), one);
	return 0;
}

int config_check_paths(const char *text, struct err *err)
{
	const char *cursor = text;
	const char *one;
	size_t bytes;

	while (config_list_next(&cursor, &one, &bytes))
		if (*one != '/' || bytes < 2)
			return err_set(err, -EINVAL,
			               "'%.*s' is no absolute path of a file or folder: "
			               "for instance /srv/app/cache",
			               (int)(bytes < 80 ? bytes : 80), one);
	return 0;
}

int config_check_object(const char *text, struct err *err)
{
	const char *colon = strrchr(text, ':');

	if (colon && colon != text && colon[1] != '\0' && !strpbrk(text, " \t"))
		return 0;
	return err_set(err, -EINVAL,
	               "'%.80s' names no object of a module: for instance app:app", text);
}

int config_check_command(const char *text, struct err *err)
{
	struct command command;
	int r = command_init(&command, text, err);

	if (r == 0 && !command.has_port && !command.has_socket)
		r = err_set(err, -EINVAL,
		            "neither " COMMAND_PORT " nor " COMMAND_SOCKET
		            " is in it, and "
		            "moult chooses where the server listens: write for instance "
		            "--port " COMMAND_PORT);
	else if (r == 0 && command.has_port && command.has_socket)
		r = err_set(err, -EINVAL,
		            "both " COMMAND_PORT " and " COMMAND_SOCKET " are in it, and "
		            "requests go one way: keep one of them");
	command_fini(&command);
	return r;
}

int config_check_ready(const char *text, struct err *err)
{
	struct ready ready;

	return ready_read(&ready, text, err);
}

void config_complete_hosting(struct config_model *model, bool has_threads)
{
	if (config_is_server(model) && !has_threads)
		model->threads = SERVER_THREADS;
}

int config_check_class(const char *text, struct err *err)
{
	const char *suffix = strrchr(text, '.');

	if (suffix && suffix != text &&
	    (strcmp(suffix, ".py") == 0 || strcmp(suffix, ".mar") == 0))
		return 0;
	return config_check_object(text, &(struct err)ERR_NULL) == 0
	               ? 0
	               : err_set(err, -EINVAL,
	                         "'%.80s' names no class of a module: for instance "
	                         "app:Model",
	                         text);
}
