/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each look is a call of its own: a moultd that was started anew answers the next one. A frame is
 * printed into memory and cut to the terminal there, so that one write shows it. The signals that
 * end are a descriptor, which every wait looks at, so no frame is left half drawn.
 */

#include "supervisor/ctl/live.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "supervisor/ctl/call.h"

#define LIVE_COLUMNS     80
#define LIVE_COLUMNS_MIN 20
#define LIVE_ROWS_MIN    2
/* Of a terminal: the upper left corner; the rest of a line, of the screen, is cleared. */
#define LIVE_HOME      "\033[H"
#define LIVE_END_LINE  "\033[K\n"
#define LIVE_END_FRAME "\033[J"

struct live {
	const struct ctl_live *what;
	int stop_fd;
	bool is_terminal;
	bool is_away; /* moultd is, and that was said */
	json_t *answer;
	json_t *before;
	uint64_t answer_ns;
	uint64_t before_ns;
};

struct live_size {
	int columns;
	int rows; /* 0: as many as are needed */
};

static struct live_size live_size(const struct live *live)
{
	const char *columns = getenv("COLUMNS");
	struct live_size size = { .columns = columns ? atoi(columns) : 0 };
	struct winsize window;

	if (live->is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 &&
	    window.ws_col > 0) {
		size.columns = window.ws_col;
		size.rows = window.ws_row;
	}
	if (size.columns < LIVE_COLUMNS_MIN)
		size.columns = size.columns > 0 ? LIVE_COLUMNS_MIN : LIVE_COLUMNS;
	if (size.rows > 0 && size.rows < LIVE_ROWS_MIN)
		size.rows = LIVE_ROWS_MIN;
	return size;
}

/* Bytes of the first @columns characters of @line, which has @bytes of UTF-8. */
static size_t live_cut(const char *line, size_t bytes, int columns)
{
	size_t i = 0;

	for (; i < bytes; i++)
		if (((unsigned char)line[i] & 0xc0) != 0x80 && columns-- == 0)
			break;
	return i;
}

/* Draws @text over what was there. The last row stays free for the cursor. */
static void live_draw(const char *text, struct live_size size)
{
	(void)fputs(LIVE_HOME, stdout);
	for (int row = 1; *text && (size.rows == 0 || row < size.rows); row++) {
		size_t bytes = strcspn(text, "\n");

		(void)fwrite(text, 1, live_cut(text, bytes, size.columns), stdout);
		(void)fputs(LIVE_END_LINE, stdout);
		text += bytes + (text[bytes] == '\n');
	}
	(void)fputs(LIVE_END_FRAME, stdout);
}

static void live_show(const struct live *live)
{
	struct live_size size = live_size(live);
	char hour[16] = "";
	time_t now = time(NULL);
	struct tm parts;
	struct ctl_looks looks = {
		.answer = live->answer,
		.before = live->before,
		.seconds = (double)(live->answer_ns - live->before_ns) / 1e9,
		.time = hour,
		.columns = size.columns,
	};
	FREE char *text = NULL;
	size_t bytes;
	FILE *out;

	if (live->what->arguments->is_json) {
		(void)json_dumpf(live->answer, stdout,
		                 JSON_COMPACT | JSON_REAL_PRECISION(15));
		(void)fputc('\n', stdout);
		return;
	}
	if (localtime_r(&now, &parts))
		(void)strftime(hour, sizeof(hour), "%H:%M:%S", &parts);
	out = open_memstream(&text, &bytes);
	if (!out)
		return;
	live->what->show(out, &looks);
	if (fclose(out) != 0)
		return;
	if (live->is_terminal)
		live_draw(text, size);
	else
		(void)printf("%s%s", text, live->what->is_once ? "" : "\n");
}

/* Asks once. 0 with an answer, or -errno as ctl_call_line() has it. */
static int live_ask(const struct live *live, json_t **ret_answer)
{
	const struct ctl_arguments *arguments = live->what->arguments;
	struct ctl_call call = CTL_CALL_NULL;
	json_t *request = json_pack("{s:s,s:s*}", "command", "status", "model",
	                            arguments->argument);
	uint64_t deadline_ns =
		clock_now_ns() + (uint64_t)arguments->timeout_s * CLOCK_NS_PER_SEC;
	int r = ctl_call_open(&call, arguments->socket, deadline_ns, live->stop_fd);
	char *line;
	size_t bytes;

	if (r == 0)
		r = ctl_call_send(&call, request);
	if (r == 0)
		r = ctl_call_line(&call, &line, &bytes);
	if (r == 0) {
		*ret_answer = json_loadb(line, bytes, 0, NULL);
		r = json_is_object(*ret_answer) ? 0 : -EPROTO;
	}
	json_decref(request);
	ctl_call_close(&call);
	return r;
}

/* True: the time is over, and nobody said to end. */
static bool live_wait(const struct live *live)
{
	uint64_t until_ns = clock_now_ns() + (uint64_t)live->what->arguments->interval_s *
	                                             CLOCK_NS_PER_SEC;
	struct pollfd stop = { .fd = live->stop_fd, .events = POLLIN };
	uint64_t now_ns;

	while ((now_ns = clock_now_ns()) < until_ns)
		if (poll(&stop, 1,
		         (int)((until_ns - now_ns + CLOCK_NS_PER_MS - 1) /
		               CLOCK_NS_PER_MS)) > 0)
			return false;
	return true;
}

/* Takes the place of the last answer. */
static void live_take(struct live *live, json_t *answer)
{
	json_decref(live->before);
	live->before = live->answer;
	live->before_ns = live->answer_ns;
	live->answer = answer;
	live->answer_ns = clock_now_ns();
}

/* A look without an answer. CTL_EXIT_OK: there will be another one. */
static enum ctl_exit live_on_failure(struct live *live, int error)
{
	const struct ctl_live *what = live->what;

	if (!live->answer)
		return what->on_unreachable(what->arguments, error);
	if (!live->is_away)
		(void)fprintf(stderr, "moultctl: no moultd answers at %s: %s: waiting\n",
		              what->arguments->socket, strerror(error));
	live->is_away = true;
	return CTL_EXIT_OK;
}

static enum ctl_exit live_refused(json_t *answer)
{
	const char *error = json_string_value(json_object_get(answer, "error"));

	(void)fprintf(stderr, "moultctl: ");
	ctl_print_text(stderr, error ? error : "failed, and moultd does not say why");
	(void)fputc('\n', stderr);
	json_decref(answer);
	return CTL_EXIT_FAILED;
}

/* Looks once. CTL_EXIT_OK: there may be another look; *ret_is_over: but not now. */
static enum ctl_exit live_look(struct live *live, bool *ret_is_over)
{
	json_t *answer = NULL;
	int r = live_ask(live, &answer);

	*ret_is_over = r == -ECANCELED;
	if (r < 0) {
		json_decref(answer);
		return *ret_is_over ? CTL_EXIT_OK : live_on_failure(live, -r);
	}
	if (!json_is_true(json_object_get(answer, "ok")))
		return live_refused(answer);
	live->is_away = false;
	live_take(live, answer);
	if (live->before || !live->what->is_once)
		live_show(live);
	*ret_is_over = (live->before && live->what->is_once) || fflush(stdout) != 0;
	return CTL_EXIT_OK;
}

enum ctl_exit ctl_live_run(const struct ctl_live *what)
{
	CLOSE_FD int stop_fd = -1;
	struct live live = { .what = what };
	enum ctl_exit result;
	sigset_t ends;
	bool is_over = false;

	(void)sigemptyset(&ends);
	(void)sigaddset(&ends, SIGINT);
	(void)sigaddset(&ends, SIGTERM);
	(void)sigaddset(&ends, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &ends, NULL);
	live.stop_fd = stop_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
	live.is_terminal =
		isatty(STDOUT_FILENO) && !what->arguments->is_json && !what->is_once;
	if (stop_fd < 0) {
		(void)fprintf(stderr, "moultctl: no signals can be had: %s\n",
		              strerror(errno));
		return CTL_EXIT_FAILED;
	}
	if (live.is_terminal) {
		/* A frame is one write. */
		(void)setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
		(void)fputs(LIVE_HOME LIVE_END_FRAME, stdout);
	}
	do
		result = live_look(&live, &is_over);
	while (result == CTL_EXIT_OK && !is_over && live_wait(&live));
	json_decref(live.answer);
	json_decref(live.before);
	return result;
}
