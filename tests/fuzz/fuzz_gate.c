/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the gate reads of clients (bearer tokens, Host, Origin, X-Forwarded-For) and of files that
 * somebody may be writing (tokens, TLS pairs), what tells the formats of model files apart, and
 * requests as files have them. Fields of clients are any bytes that the reader of HTTP lets
 * through. A pair that is taken is whole; nobody is somebody without having sent a token of the
 * directory; and an address that was read is printed and read again as the same.
 */

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>

#include "loader/aoti/package.h"
#include "loader/aoti/source.h"
#include "shared/log.h"
#include "shared/model_format.h"
#include "shared/request_text.h"
#include "supervisor/gate/clients.h"
#include "supervisor/gate/hosts.h"
#include "supervisor/gate/tls_pair.h"
#include "supervisor/gate/tokens.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/folder.h"

#define TOKEN "0123456789abcdef-token"
#define EVIL  "evil.example"
/* Ends a file, or a field, in the input. */
#define SEPARATOR '\f'

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *folder;
static int folder_fd = -1;
static int tokens_fd;
static struct tokens *tokens;
static struct ev_loop *loop;
static struct config config;
static char tokens_path[96];
static char certificate_path[96];
static char key_path[96];

static void leave(void)
{
	tokens_free(tokens);
	ev_loop_destroy(loop);
}

static void start(void)
{
	struct err err = ERR_NULL;

	log_set_level(LOG_LEVEL_NONE);
	folder = fuzz_folder_enter();
	folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)snprintf(tokens_path, sizeof(tokens_path), "%s/tokens", folder);
	(void)snprintf(certificate_path, sizeof(certificate_path), "%s/crt", folder);
	(void)snprintf(key_path, sizeof(key_path), "%s/key", folder);
	assert(folder_fd >= 0 && mkdir(tokens_path, 0700) == 0);
	tokens_fd = open(tokens_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fuzz_folder_write_at(tokens_fd, "known", TOKEN, strlen(TOKEN), 0600);
	loop = ev_loop_new(EVFLAG_NOENV);
	config.tokens = tokens_path;
	assert(loop && tokens_new(&tokens, loop, &config, &err) == 0);
	(void)atexit(leave);
}

/* Takes what stands before the next separator off @bytes. */
static struct proto_text take(struct fuzz_bytes *bytes)
{
	const uint8_t *end =
		bytes->left > 0 ? memchr(bytes->at, SEPARATOR, bytes->left) : NULL;
	struct proto_text text = { (const char *)bytes->at,
		                   end ? (size_t)(end - bytes->at) : bytes->left };
	size_t n = text.bytes + (end != NULL);

	bytes->at += n;
	bytes->left -= n;
	return text;
}

/* Clients */

static void play_token(struct proto_text value)
{
	const char *name = NULL;
	enum tokens_asker asker = tokens_identify(tokens, value, 1, &name);
	char *const all[] = { (char *)(uintptr_t)CONFIG_TOKENS_ALL };

	assert(asker != TOKENS_NOBODY && name);
	if (asker == TOKENS_KNOWN) {
		assert(strcmp(name, "known") == 0 && value.bytes > strlen(TOKEN));
		assert(memcmp(value.data + value.bytes - strlen(TOKEN), TOKEN,
		              strlen(TOKEN)) == 0);
	} else {
		assert(*name == '\0' && !tokens_allow(asker, name, all, 1));
	}
}

static void play_hosts(struct fuzz_bytes *bytes)
{
	static const char *const lists[] = { NULL, "a.example, *.b.example", "any" };
	const char *list = lists[fuzz_u8(bytes) % FUZZ_COUNT(lists)];
	struct proto_text host = take(bytes);
	struct proto_text origin = take(bytes);
	const char *port = host.bytes > 0 ? memchr(host.data, ':', host.bytes) : NULL;
	size_t name_bytes = port ? (size_t)(port - host.data) : host.bytes;

	/* A name with a dot that is no number may be but by the list, or below localhost. What
	 * stands behind a colon is the reader's of HTTP to refuse. */
	if (hosts_allow(list, host) && !list && name_bytes >= strlen(EVIL))
		assert(memcmp(host.data + name_bytes - strlen(EVIL), EVIL,
		              strlen(EVIL)) != 0);
	(void)hosts_allow_origin(list, origin, host);
}

static void play_addresses(struct fuzz_bytes *bytes)
{
	static const char list[] = "127.0.0.0/8, 10.0.0.1, 2001:db8::/32";
	struct client_address address;
	struct client_address again;
	struct proto_text text = take(bytes);
	char printed[INET6_ADDRSTRLEN];

	(void)client_is_range(text);
	if (client_address_read(&address, text)) {
		assert(inet_ntop(AF_INET6, address.bytes, printed, sizeof(printed)));
		assert(client_address_read(&again, proto_text_of(printed)));
		assert(memcmp(&address, &again, sizeof(address)) == 0);
	}
	assert(client_address_read(&address, proto_text_of("127.0.0.1")));
	client_follow(&address, take(bytes), list);
	(void)client_is_listed(&address, list);
	client_address_group(&address);
}

/* Files */

static void play_token_file(struct fuzz_bytes *bytes)
{
	struct proto_text first = take(bytes);
	struct err err = ERR_NULL;
	int r;

	fuzz_folder_write_at(tokens_fd, "known", first.data, first.bytes, 0600);
	if (bytes->left > 0)
		fuzz_folder_write_at(tokens_fd, "other", bytes->at, bytes->left, 0600);
	r = tokens_check(&config, &err);
	assert(r == 0 || (r < 0 && *err.text));
	(void)unlinkat(tokens_fd, "other", 0);
}

static void play_pair(struct fuzz_bytes *bytes)
{
	struct tls_files files = { .certificate = certificate_path, .key = key_path };
	struct proto_text certificate = take(bytes);
	struct tls_pair *pair = NULL;
	struct err err = ERR_NULL;
	struct err why;

	fuzz_folder_write_at(folder_fd, "crt", certificate.data, certificate.bytes, 0600);
	fuzz_folder_write_at(folder_fd, "key", bytes->at, bytes->left, 0600);
	if (fuzz_u8(bytes) & 1)
		files.client_ca = certificate_path;
	if (tls_pair_read(&pair, &files, &err) < 0) {
		assert(!pair && *err.text);
		return;
	}
	assert(pair->n_chain > 0 && pair->n_chain <= TLS_CHAIN_MAX);
	(void)tls_pair_is_late(pair, 0, &why);
	tls_pair_unref(pair);
}

static size_t read_model(void *context, uint64_t at, void *buffer, size_t bytes)
{
	const struct fuzz_bytes *file = context;
	size_t n = at < file->left ? (size_t)(file->left - at) : 0;

	n = n < bytes ? n : bytes;
	if (n > 0)
		memcpy(buffer, file->at + at, n);
	return n;
}

/* A package of AOTInductor, as engine aoti takes it apart. */
static void play_package(const struct fuzz_bytes *bytes)
{
	struct source_input inputs[2] = { 0 };
	struct package package = PACKAGE_NULL;
	struct err err = ERR_NULL;
	int r = package_open(&package, bytes->at, bytes->left, NULL, &err);

	assert(r == 0 ? package.library.data != NULL : *err.text != '\0');
	for (size_t i = 0; r == 0 && i < package.n_weights; i++) {
		struct package_part part = { NULL, 0 };

		if (package_find_weight(&package, package.weights[i].name, &part))
			assert(part.data >= bytes->at &&
			       part.bytes <=
			               (size_t)(bytes->at + bytes->left - part.data));
	}
	if (r == 0 && package.source.data)
		source_read(inputs, 2, (const char *)package.source.data,
		            package.source.bytes);
	assert(inputs[0].shape.rank <= TENSOR_RANK_MAX);
	if (r == 0)
		r = package_check_machine(&package, "cpu", &err);
	assert(r == 0 || *err.text);
	package_fini(&package);
}

static void play_model(struct fuzz_bytes *bytes)
{
	const struct model_file file = { .read = read_model,
		                         .context = bytes,
		                         .bytes = bytes->left };
	struct err err = ERR_NULL;
	int r = model_format_check_torchscript(&file, &err);

	assert(r == 0 || (r == MODEL_FORMAT_E_OTHER && *err.text));
	err = (struct err)ERR_NULL;
	r = model_format_check_onnx(&file, &err);
	assert(r == 0 || (r == MODEL_FORMAT_E_OTHER && *err.text));
	play_package(bytes);
}

static void play_request(const struct fuzz_bytes *bytes)
{
	static struct proto_field fields[PROTO_FIELDS_MAX];
	struct request_text request;
	char *text = malloc(bytes->left + 1);

	assert(text);
	if (bytes->left > 0)
		memcpy(text, bytes->at, bytes->left);
	if (request_text_parse(&request, fields, text, bytes->left) == 0) {
		assert(request.n_fields <= PROTO_FIELDS_MAX);
		assert(request.target.bytes > 0 && request.target.data[0] == '/');
		assert((const char *)request.body + request.body_bytes ==
		       text + bytes->left);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes = { data, size };
	uint8_t what = fuzz_u8(&bytes);
	int next_fd;

	if (size == 0)
		return 0; /* no text at all has no address either */
	if (folder_fd < 0)
		start();
	next_fd = fuzz_next_fd();
	switch (what % 7) {
	case 0:
		play_token(take(&bytes));
		break;
	case 1:
		play_hosts(&bytes);
		break;
	case 2:
		play_addresses(&bytes);
		break;
	case 3:
		play_token_file(&bytes);
		break;
	case 4:
		play_pair(&bytes);
		break;
	case 5:
		play_model(&bytes);
		break;
	default:
		play_request(&bytes);
		break;
	}
	assert(fuzz_next_fd() == next_fd);
	return 0;
}
