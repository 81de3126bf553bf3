/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/inputs/config_visit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/file.h"
#include "shared/request_text.h"

/* Bytes of a method or a target that a sentence quotes. */
#define VISIT_QUOTED_MAX 80

static int visit_quoted(struct proto_text text)
{
	return (int)(text.bytes < VISIT_QUOTED_MAX ? text.bytes : VISIT_QUOTED_MAX);
}

/* moultd answers CONNECT and TRACE itself. */
static bool visit_check_method(const char *path, struct proto_text method,
                               struct err *why)
{
	static const char *const never[] = { "CONNECT", "TRACE" };

	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (proto_text_equals(method, never[i])) {
			(void)err_set(why, 0,
			              "%.200s asks with %s, which moultd never passes "
			              "on: use a method that clients use",
			              path, never[i]);
			return false;
		}
	return true;
}

static bool visit_check_request(const struct config_model *model,
                                const struct request_text *request, struct err *why)
{
	const char *path = model->warmup_request;
	struct proto_text target = request->target;
	const char *query = memchr(target.data, '?', target.bytes);
	size_t bytes = query ? (size_t)(query - target.data) : target.bytes;

	if (!visit_check_method(path, request->method, why))
		return false;
	if (config_route_match(model->route, target.data, bytes) > 0)
		return true;
	(void)err_set(why, 0,
	              "%.200s asks for %.*s, and route = %.200s does not cover that: no "
	              "client can ask for it",
	              path, visit_quoted(target), target.data, model->route);
	return false;
}

bool config_visit_check(const struct config_model *model, struct err *why)
{
	const char *path = model->warmup_request;
	CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct proto_field fields[PROTO_FIELDS_MAX];
	struct request_text request;
	FREE char *text = NULL;
	unsigned int wrong;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		(void)err_set(why, 0, "%.200s: %s", path, strerror(errno));
		return false;
	}
	if (st.st_size <= 0 || (uint64_t)st.st_size > model->max_body_bytes) {
		(void)err_set(why, 0, "%.200s must have 1 to %llu bytes (max_body)", path,
		              (unsigned long long)model->max_body_bytes);
		return false;
	}
	text = malloc((size_t)st.st_size);
	if (!text || file_read_at(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		(void)err_set(why, 0, "%.200s cannot be read whole", path);
		return false;
	}
	wrong = request_text_parse(&request, fields, text, (size_t)st.st_size);
	if (wrong) {
		(void)err_set(why, 0,
		              "%.200s, line %u: a request begins with a line such as "
		              "POST /path, then come lines such as Content-Type: "
		              "text/plain, an empty line, and the body",
		              path, wrong);
		return false;
	}
	return visit_check_request(model, &request, why);
}
