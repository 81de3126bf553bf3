/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/config/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "supervisor/config/config.h"

#define NAME_BYTES_MAX ((size_t)CONFIG_NAME_MAX - 1)

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

bool config_model_is_doubtful(const struct config_model *model, struct err *err)
{
	double stall_s = (double)model->stall_timeout_ns / 1e9;
	double request_s = (double)model->request_timeout_ns / 1e9;

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
