/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Certificates and keys as files have them. What is half written shows as a PEM block without
 * an end, or as a key that does not belong to the certificate: either is refused whole. Texts
 * of certificates come from elsewhere and are made clean before anybody prints them. The
 * bytes of a key are overwritten as soon as they are read.
 */
#include "supervisor/gate/tls_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/file.h"

/* Chains and lists of authorities are some 10 KiB; a whole system's is 200. */
#define TLS_FILE_BYTES_MAX ((size_t)1024 * 1024)
#define TLS_PEM_BEGIN      "-----BEGIN "
#define TLS_PEM_END        "-----END "

/* Files as they are read; data is owned and terminated. */
struct tls_text {
	const char *key; /* of the configuration */
	const char *path;
	gnutls_datum_t data;
};

static void tls_text_fini(struct tls_text *text)
{
	if (text->data.data)
		explicit_bzero(text->data.data, text->data.size);
	free(text->data.data);
	text->data.data = NULL;
}

static int tls_text_why(const struct tls_text *text, int error, struct err *err)
{
	struct err why;

	return err_set(err, -error, "%s: %s: %s", text->key, text->path,
	               access_why(&why, text->path, R_OK, error));
}

static size_t tls_text_count(const struct tls_text *text, const char *what)
{
	const char *at = (const char *)text->data.data;
	size_t n = 0;

	while ((at = strstr(at, what))) {
		at += strlen(what);
		n++;
	}
	return n;
}

/* True: a file that somebody is still writing, or that is no PEM. */
static bool tls_text_is_broken(const struct tls_text *text, struct err *err)
{
	size_t n = tls_text_count(text, TLS_PEM_BEGIN);

	if (n == 0)
		(void)err_set(err, 0,
		              "%s: %s: has no PEM block (-----BEGIN ...): DER is "
		              "converted with openssl x509 or openssl pkey",
		              text->key, text->path);
	else if (n != tls_text_count(text, TLS_PEM_END))
		(void)err_set(err, 0,
		              "%s: %s: a PEM block in it has no end: it is half written, "
		              "or was cut",
		              text->key, text->path);
	else
		return false;
	return true;
}

static int tls_text_read(struct tls_text *text, const char *key, const char *path,
                         struct err *err)
{
	CLOSE_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t n;

	*text = (struct tls_text){ .key = key, .path = path };
	if (fd < 0 || fstat(fd, &st) < 0)
		return tls_text_why(text, errno, err);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > TLS_FILE_BYTES_MAX)
		return err_set(err, -EINVAL,
		               "%s: %s: is no regular file of %zu KiB at most", key, path,
		               TLS_FILE_BYTES_MAX / 1024);
	text->data.data = calloc(1, (size_t)st.st_size + 1);
	if (!text->data.data)
		return err_set(err, -ENOMEM, "%s: out of memory", key);
	n = file_read_at(fd, text->data.data, (size_t)st.st_size, 0);
	if (n < 0)
		return tls_text_why(text, (int)-n, err);
	text->data.size = (unsigned int)n;
	return tls_text_is_broken(text, err) ? -EINVAL : 0;
}

/* Turns what GnuTLS returned into a sentence about @text. */
static int tls_text_fault(const struct tls_text *text, int code, const char *what,
                          struct err *err)
{
	return err_set(err, code == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL,
	               "%s: %s: %s: %s", text->key, text->path, what,
	               gnutls_strerror(code));
}

static void tls_note_names(struct tls_pair *pair, gnutls_x509_crt_t own)
{
	size_t used = 0;
	unsigned int i = 0;
	int type;

	do {
		char name[TLS_TEXT_MAX];
		size_t bytes = sizeof(name) - 1;

		type = gnutls_x509_crt_get_subject_alt_name(own, i++, name, &bytes, NULL);
		if (type != GNUTLS_SAN_DNSNAME || used >= sizeof(pair->names))
			continue;
		name[bytes] = '\0';
		used += (size_t)snprintf(pair->names + used, sizeof(pair->names) - used,
		                         "%s%s", used ? ", " : "", name);
	} while (type >= 0);
	err_clean(pair->names);
}

static void tls_note(struct tls_pair *pair, const gnutls_x509_crt_t *crts, unsigned int n)
{
	for (unsigned int i = 0; i < n && i < TLS_CHAIN_MAX; i++) {
		struct tls_certificate *one = &pair->chain[pair->n_chain++];
		gnutls_datum_t name = { NULL, 0 };

		one->not_before = gnutls_x509_crt_get_activation_time(crts[i]);
		one->not_after = gnutls_x509_crt_get_expiration_time(crts[i]);
		if (gnutls_x509_crt_get_dn3(crts[i], &name, 0) == 0)
			(void)snprintf(one->subject, sizeof(one->subject), "%.*s",
			               (int)name.size, (const char *)name.data);
		gnutls_free(name.data);
		err_clean(one->subject);
	}
	tls_note_names(pair, crts[0]);
}

static int tls_read_key(gnutls_x509_privkey_t private_key, const struct tls_text *key,
                        struct err *err)
{
	int code;

	if (strstr((const char *)key->data.data, "ENCRYPTED"))
		return err_set(err, -EINVAL,
		               "tls_key: %s: is encrypted, and nobody is asked for its "
		               "password: write it out with openssl pkey",
		               key->path);
	code = gnutls_x509_privkey_import(private_key, &key->data, GNUTLS_X509_FMT_PEM);
	return code < 0 ? tls_text_fault(key, code, "has no private key", err) : 0;
}

static int tls_add_key(struct tls_pair *pair, gnutls_x509_crt_t *crts, unsigned int n,
                       const struct tls_text *certificate, const struct tls_text *key,
                       struct err *err)
{
	gnutls_x509_privkey_t private_key;
	int code = gnutls_x509_privkey_init(&private_key);
	int r;

	if (code < 0)
		return tls_text_fault(key, code, "cannot be read", err);
	r = tls_read_key(private_key, key, err);
	if (r == 0) {
		code = gnutls_certificate_set_x509_key(pair->credentials, crts, (int)n,
		                                       private_key);
		if (code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
			r = err_set(err, -EINVAL,
			            "tls_key: %s: is not the key of the certificate in "
			            "%s",
			            key->path, certificate->path);
		else if (code < 0)
			r = tls_text_fault(certificate, code, "is of no use", err);
	}
	gnutls_x509_privkey_deinit(private_key);
	return r;
}

static int tls_add_pair(struct tls_pair *pair, const struct tls_text *certificate,
                        const struct tls_text *key, struct err *err)
{
	gnutls_x509_crt_t *crts = NULL;
	unsigned int n = 0;
	int r = gnutls_x509_crt_list_import2(&crts, &n, &certificate->data,
	                                     GNUTLS_X509_FMT_PEM,
	                                     GNUTLS_X509_CRT_LIST_SORT);

	if (r < 0 || n == 0)
		return tls_text_fault(certificate,
		                      r < 0 ? r : GNUTLS_E_NO_CERTIFICATE_FOUND,
		                      "has no certificate", err);
	tls_note(pair, crts, n);
	r = tls_add_key(pair, crts, n, certificate, key, err);
	for (unsigned int i = 0; i < n; i++)
		gnutls_x509_crt_deinit(crts[i]);
	gnutls_free(crts);
	return r;
}

static int tls_add_clients(struct tls_pair *pair, const struct tls_text *ca,
                           struct err *err)
{
	int n = gnutls_certificate_set_x509_trust_mem(pair->credentials, &ca->data,
	                                              GNUTLS_X509_FMT_PEM);

	if (n <= 0)
		return tls_text_fault(ca, n < 0 ? n : GNUTLS_E_NO_CERTIFICATE_FOUND,
		                      "has no certificate of an authority", err);
	pair->n_client_cas = (unsigned int)n;
	return 0;
}

static int tls_note_digest(struct tls_pair *pair, const struct tls_text *texts, size_t n)
{
	gnutls_hash_hd_t hash;
	int code = gnutls_hash_init(&hash, GNUTLS_DIG_SHA256);

	if (code < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		/* The length keeps the end of one file from being the beginning of another. */
		(void)gnutls_hash(hash, &texts[i].data.size, sizeof(texts[i].data.size));
		if (texts[i].data.size > 0)
			(void)gnutls_hash(hash, texts[i].data.data, texts[i].data.size);
	}
	gnutls_hash_deinit(hash, pair->digest);
	return 0;
}

static int tls_pair_fill(struct tls_pair *pair, const struct tls_files *files,
                         struct tls_text texts[3], struct err *err)
{
	int r = gnutls_certificate_allocate_credentials(&pair->credentials) < 0 ? -ENOMEM
	                                                                        : 0;

	if (r < 0)
		return err_set(err, r, "out of memory");
	r = tls_text_read(&texts[0], "tls_certificate", files->certificate, err);
	if (r == 0)
		r = tls_text_read(&texts[1], "tls_key", files->key, err);
	if (r == 0 && files->client_ca)
		r = tls_text_read(&texts[2], "tls_client_ca", files->client_ca, err);
	if (r == 0)
		r = tls_add_pair(pair, &texts[0], &texts[1], err);
	if (r == 0 && files->client_ca)
		r = tls_add_clients(pair, &texts[2], err);
	return r < 0 ? r : tls_note_digest(pair, texts, 3);
}

int tls_pair_read(struct tls_pair **ret_pair, const struct tls_files *files,
                  struct err *err)
{
	struct tls_pair *pair = calloc(1, sizeof(*pair));
	struct tls_text texts[3] = { { .key = NULL } };
	int r;

	if (!pair)
		return err_set(err, -ENOMEM, "out of memory");
	pair->refs = 1;
	r = tls_pair_fill(pair, files, texts, err);
	for (size_t i = 0; i < 3; i++)
		tls_text_fini(&texts[i]);
	if (r < 0)
		tls_pair_unref(pair);
	else
		*ret_pair = pair;
	return r;
}

struct tls_pair *tls_pair_ref(struct tls_pair *pair)
{
	pair->refs++;
	return pair;
}

void tls_pair_unref(struct tls_pair *pair)
{
	if (!pair || --pair->refs > 0)
		return;
	if (pair->credentials)
		gnutls_certificate_free_credentials(pair->credentials);
	free(pair);
}

const char *tls_print_time(time_t time, char *text)
{
	struct tm utc;

	if (!gmtime_r(&time, &utc) ||
	    strftime(text, TLS_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
		(void)snprintf(text, TLS_TIME_MAX, "unknown");
	return text;
}

bool tls_pair_is_late(const struct tls_pair *pair, time_t now, struct err *ret_why)
{
	char text[TLS_TIME_MAX];

	for (size_t i = 0; i < pair->n_chain; i++) {
		const struct tls_certificate *one = &pair->chain[i];
		bool is_over = now > one->not_after;

		if (!is_over && now >= one->not_before)
			continue;
		(void)err_set(ret_why, 0, "the certificate of '%.200s' %s %s",
		              one->subject, is_over ? "ended at" : "begins at",
		              tls_print_time(is_over ? one->not_after : one->not_before,
		                             text));
		return true;
	}
	return false;
}
