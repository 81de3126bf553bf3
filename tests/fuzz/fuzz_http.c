/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A client's bytes against the endpoint as http_new() makes it, libmicrohttpd included, without
 * any model. A second reader, written only for this, tells which requests the bytes are: each
 * must be answered once and in order, a malformed one with an error that ends the connection, and
 * nothing behind it.
 */

#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/http/conn.h"
#include "tests/fuzz/bytes.h"

#define INPUT_MAX 4096u
/* A byte that stands for many, so that a short input has a body that goes past libmicrohttpd. */
#define MANY       0xff
#define MANY_BYTES 8192u
#define SENT_MAX   (32 * MANY_BYTES)
/* Pieces of such an input are larger. */
#define MANY_PIECE   61u
#define OUTPUT_MAX   ((size_t)1 << 20)
#define REQUESTS_MAX 512u
#define ROUNDS_MAX   20000
/* Longer lines meet other bounds of the endpoint. */
#define LINE_MAX_BYTES 300u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The second reader: on the whole input, line by line. */

/* CUT: the request is not whole. SKIP: this reader cannot tell. */
enum verdict { GOOD, BAD, CUT, SKIP };

struct wanted {
	enum verdict verdict;
	bool is_head;
	bool may_close; /* the answer may end the connection */
	bool must_close;
};

struct reader {
	const char *at;
	size_t left;
	struct wanted wanted[REQUESTS_MAX];
	size_t n;
};

/* Takes a line, without its CR LF. False: the line is not whole. */
static bool line_of(struct reader *reader, const char **line, size_t *bytes)
{
	for (size_t i = 0; i + 1 < reader->left; i++)
		if (memcmp(reader->at + i, "\r\n", 2) == 0) {
			*line = reader->at;
			*bytes = i;
			reader->at += i + 2;
			reader->left -= i + 2;
			return true;
		}
	return false;
}

/* strchr(3) finds the NUL behind @set, too. */
static bool is_of(char c, const char *set)
{
	return c && strchr(set, c);
}

static bool all_of(const char *text, size_t bytes, const char *allowed)
{
	for (size_t i = 0; i < bytes; i++)
		if (!is_of(text[i], allowed))
			return false;
	return true;
}

#define DIGITS  "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define TOKEN   "!#$%&'*+-.^_`|~" DIGITS LETTERS

static bool is_text(const char *text, size_t bytes, bool is_target)
{
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];

		if (is_target ? c <= 0x20 || c >= 0x7f || c == '#'
		              : (c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

struct facts {
	bool is_old;
	unsigned int n_fields, n_hosts, n_lengths, n_codings;
	unsigned long long length;
	bool has_close, has_keep_alive, is_bad, is_strange, is_beyond;
};

static bool is_host(const char *text, size_t bytes)
{
	size_t name = bytes;

	while (name > 0 && is_of(text[name - 1], DIGITS))
		name--;
	if (name > 0 && text[name - 1] == ':')
		name--;
	else
		name = bytes;
	if (name > 0 && text[0] == '[')
		return name > 2 && text[name - 1] == ']' &&
		       all_of(text + 1, name - 2, "0123456789abcdefABCDEFvV:.");
	return all_of(text, name, "-._~!$&'()*+,;=%" DIGITS LETTERS);
}

static void read_tokens(struct facts *facts, const char *text, size_t bytes)
{
	const char *end = text + bytes;

	while (text < end) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		const char *stop = comma ? comma : end;

		while (text < stop && is_of(*text, " \t"))
			text++;
		while (stop > text && is_of(stop[-1], " \t"))
			stop--;
		facts->has_close |=
			stop - text == 5 && strncasecmp(text, "close", 5) == 0;
		facts->has_keep_alive |=
			stop - text == 10 && strncasecmp(text, "keep-alive", 10) == 0;
		text = comma ? comma + 1 : end;
	}
}

static void read_field(struct facts *facts, const char *line, size_t bytes)
{
	const char *colon = memchr(line, ':', bytes);
	size_t name = colon ? (size_t)(colon - line) : 0;
	const char *value = line + name + 1;
	size_t n;

	if (name == 0 || !all_of(line, name, TOKEN) || !is_text(line, bytes, false) ||
	    ++facts->n_fields > 64) {
		facts->is_bad = true;
		return;
	}
	n = bytes - name - 1;
	while (n > 0 && is_of(value[0], " \t")) {
		value++;
		n--;
	}
	while (n > 0 && is_of(value[n - 1], " \t"))
		n--;
	if (name == 4 && strncasecmp(line, "host", 4) == 0) {
		facts->n_hosts++;
		facts->is_bad |= !is_host(value, n);
	} else if (name == 14 && strncasecmp(line, "content-length", 14) == 0) {
		facts->n_lengths++;
		facts->is_bad |= n == 0 || !all_of(value, n, DIGITS);
		facts->is_beyond |= n > 18;
		for (size_t i = 0; i < n && n <= 18; i++)
			facts->length =
				facts->length * 10 + (unsigned char)(value[i] - '0');
	} else if (name == 17 && strncasecmp(line, "transfer-encoding", 17) == 0) {
		facts->n_codings++;
		facts->is_bad |= n != 7 || strncasecmp(value, "chunked", 7) != 0;
	} else if (name == 10 && strncasecmp(line, "connection", 10) == 0) {
		read_tokens(facts, value, n);
	} else if (name == 6 && strncasecmp(line, "expect", 6) == 0) {
		facts->is_strange = true;
	}
}

static bool is_request_line(struct facts *facts, const char *line, size_t bytes)
{
	const char *end = line + bytes;
	const char *target = memchr(line, ' ', bytes);
	const char *version =
		target ? memchr(target + 1, ' ', (size_t)(end - target - 1)) : NULL;

	if (!version || end - version != 9 || memcmp(version + 1, "HTTP/1.", 7) != 0 ||
	    !is_of(version[8], DIGITS) || target == line || version == target + 1)
		return false;
	facts->is_old = version[8] == '0';
	facts->is_strange = target - line > 32 || strncmp(line, "CONNECT ", 8) == 0;
	return all_of(line, (size_t)(target - line), TOKEN) &&
	       is_text(target + 1, (size_t)(version - target - 1), true);
}

/* Reads a chunked body. GOOD: the reader stands behind it. */
static enum verdict read_chunks(struct reader *reader)
{
	const char *line;
	size_t bytes;

	for (;;) {
		unsigned long long size;
		size_t digits = 0;
		size_t behind;

		if (!line_of(reader, &line, &bytes))
			return CUT;
		while (digits < bytes &&
		       all_of(line + digits, 1, "0123456789abcdefABCDEF"))
			digits++;
		behind = digits;
		while (behind < bytes && is_of(line[behind], " \t"))
			behind++;
		if (digits == 0 || !is_text(line, bytes, false) ||
		    (digits < bytes && (behind == bytes || line[behind] != ';')))
			return BAD;
		if (digits > 15 || bytes > LINE_MAX_BYTES)
			return SKIP;
		size = strtoull(line, NULL, 16);
		if (size == 0)
			break;
		if (reader->left < size + 2)
			return CUT;
		if (memcmp(reader->at + size, "\r\n", 2) != 0)
			return BAD;
		reader->at += size + 2;
		reader->left -= size + 2;
	}
	while (line_of(reader, &line, &bytes)) {
		const char *colon = memchr(line, ':', bytes);

		if (bytes == 0)
			return GOOD;
		if (!colon || colon == line || !is_text(line, bytes, false) ||
		    !all_of(line, (size_t)(colon - line), TOKEN))
			return BAD;
	}
	return CUT;
}

static enum verdict read_request(struct reader *reader, struct wanted *wanted)
{
	struct facts facts = { 0 };
	enum verdict verdict = GOOD;
	unsigned int n_empty = 0;
	const char *line;
	size_t bytes;

	do {
		wanted->is_head = reader->left > 4 && memcmp(reader->at, "HEAD ", 5) == 0;
		if (!line_of(reader, &line, &bytes))
			return CUT;
		if (bytes == 0 && ++n_empty > 4)
			return BAD;
	} while (bytes == 0);
	if (bytes > LINE_MAX_BYTES)
		return SKIP;
	if (!is_request_line(&facts, line, bytes))
		return BAD;
	for (;;) {
		if (!line_of(reader, &line, &bytes))
			return facts.is_bad ? BAD : CUT;
		if (bytes == 0)
			break;
		if (bytes > LINE_MAX_BYTES)
			return SKIP;
		read_field(&facts, line, bytes);
	}
	if (facts.is_beyond)
		return SKIP;
	wanted->may_close = facts.is_strange;
	wanted->must_close = facts.has_close || (facts.is_old && !facts.has_keep_alive);
	if (facts.is_bad || facts.n_hosts > 1 || facts.n_lengths > 1 ||
	    facts.n_codings > 1 || (facts.n_lengths && facts.n_codings) ||
	    (facts.n_codings && facts.is_old) || (facts.n_hosts == 0 && !facts.is_old))
		return BAD;
	if (facts.n_codings)
		verdict = read_chunks(reader);
	else if (reader->left < facts.length)
		verdict = CUT;
	else {
		reader->at += facts.length;
		reader->left -= (size_t)facts.length;
	}
	return verdict;
}

static void read_all(struct reader *reader)
{
	while (reader->left > 0 && reader->n < REQUESTS_MAX) {
		struct wanted *wanted = &reader->wanted[reader->n++];

		wanted->verdict = read_request(reader, wanted);
		if (wanted->verdict != GOOD || wanted->must_close)
			return;
	}
}

/* The endpoint */

static struct ev_loop *loop;
static struct http *http;

static void start(void)
{
	static struct model *const none[1];
	static struct gate gate;
	struct http_models models = { .list = none, .gate = &gate };
	static struct config config = {
		.max_connections = 64,
		.connection_memory_bytes = 16384,
		.idle_timeout_ns = 3600 * CLOCK_NS_PER_SEC,
		.header_timeout_ns = 3600 * CLOCK_NS_PER_SEC,
		.body_timeout_ns = 3600 * CLOCK_NS_PER_SEC,
	};
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct err err = ERR_NULL;

	log_set_level(LOG_LEVEL_ERR);
	assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	assert(listen(fd, 1) == 0);
	loop = ev_loop_new(EVFLAG_NOENV);
	assert(loop && gate_open(&gate, loop, &config, &err) == 0);
	assert(http_new(&http, loop, &config, &models, fd, &err) == 0);
}

static void take(int fd, char *output, size_t *n)
{
	ssize_t r;

	while ((r = read(fd, output + *n, OUTPUT_MAX - *n)) > 0)
		*n += (size_t)r;
}

/* Sends @data in pieces; @output gets all answers until the connection ends. */
static size_t exchange(const char *data, size_t bytes, size_t piece, char *output)
{
	const struct sockaddr nobody = { .sa_family = AF_UNIX };
	size_t n = 0;
	int fds[2];

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) ==
	       0);
	assert(MHD_add_connection(http->daemon, fds[0], &nobody, sizeof(nobody)) ==
	       MHD_YES);
	http_conns_want_run(http);
	for (size_t at = 0; at < bytes;) {
		size_t size = bytes - at < piece ? bytes - at : piece;
		ssize_t r = send(fds[1], data + at, size, MSG_NOSIGNAL);

		ev_run(loop, EVRUN_NOWAIT);
		take(fds[1], output, &n);
		if (r < 0)
			break;
		at += (size_t)r;
	}
	(void)shutdown(fds[1], SHUT_WR);
	for (int i = 0; http->conns.n_connections > 0; i++) {
		assert(i < ROUNDS_MAX);
		ev_run(loop, EVRUN_NOWAIT);
		take(fds[1], output, &n);
	}
	take(fds[1], output, &n);
	(void)close(fds[1]);
	return n;
}

/* The answers */

struct answer {
	unsigned int status;
	bool says_close;
};

/* Takes one answer off the front of @output, which holds answers alone. */
static struct answer next_answer(const char **output, size_t *left, bool is_head)
{
	struct reader reader = { .at = *output, .left = *left };
	struct answer answer = { 0 };
	size_t body = 0;
	const char *line;
	size_t bytes;

	assert(line_of(&reader, &line, &bytes));
	assert(bytes > 13 && memcmp(line, "HTTP/1.1 ", 9) == 0);
	answer.status = (unsigned int)strtoul(line + 9, NULL, 10);
	while (line_of(&reader, &line, &bytes) && bytes > 0) {
		if (bytes > 16 && strncasecmp(line, "content-length: ", 16) == 0)
			body = strtoul(line + 16, NULL, 10);
		if (bytes == 17 && strncasecmp(line, "connection: close", 17) == 0)
			answer.says_close = true;
	}
	if (is_head || answer.status == 100)
		body = 0;
	else
		assert(body > 0 && reader.left >= body && reader.at[0] == '{');
	*output = reader.at + body;
	*left = reader.left - body;
	return answer;
}

static void check(const struct reader *reader, const char *output, size_t left)
{
	for (size_t i = 0; i < reader->n; i++) {
		const struct wanted *wanted = &reader->wanted[i];
		bool may_close = wanted->may_close || wanted->must_close ||
		                 wanted->verdict != GOOD;
		struct answer answer;

		/* libmicrohttpd drops a client that ends its side before its 100. */
		if (wanted->verdict == SKIP ||
		    (left == 0 && (wanted->verdict == CUT || wanted->may_close)))
			return;
		do
			answer = next_answer(&output, &left, wanted->is_head);
		while (answer.status == 100 && left > 0);
		if (answer.status == 100)
			return;
		assert(wanted->verdict != BAD || answer.status >= 400);
		assert(wanted->verdict != BAD || answer.says_close);
		assert(answer.says_close ? may_close : !wanted->must_close);
		if (answer.says_close || wanted->verdict != GOOD)
			break;
	}
	assert(left == 0);
}

/* Writes to @sent what @bytes stand for; 0: too much. */
static size_t expand(const struct fuzz_bytes *bytes, char *sent)
{
	size_t n = 0;

	for (size_t i = 0; i < bytes->left; i++) {
		size_t size = bytes->at[i] == MANY ? MANY_BYTES : 1;

		if (size > SENT_MAX - n)
			return 0;
		memset(sent + n, bytes->at[i] == MANY ? 'a' : bytes->at[i], size);
		n += size;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes = { data, size };
	size_t piece = fuzz_u8(&bytes);
	char *sent = malloc(SENT_MAX);
	struct reader *reader = calloc(1, sizeof(*reader));
	char *output = malloc(OUTPUT_MAX);
	size_t n;

	if (!http)
		start();
	assert(reader && output && sent);
	reader->at = sent;
	reader->left = bytes.left <= INPUT_MAX ? expand(&bytes, sent) : 0;
	if (reader->left > bytes.left)
		piece *= MANY_PIECE;
	if (reader->left > 0) {
		n = exchange(sent, reader->left, piece ? piece : SENT_MAX, output);
		read_all(reader);
		check(reader, output, n);
	}
	free(reader);
	free(output);
	free(sent);
	return 0;
}
