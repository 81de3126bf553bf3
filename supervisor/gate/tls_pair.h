/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A certificate with its key and, for clients' certificates, the authorities that they are
 * of: read whole from PEM files, checked, and never changed. Each connection holds a
 * reference to the one that it began with, so that another one takes its place without
 * anybody noticing.
 */

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "shared/err.h"

#define TLS_CHAIN_MAX  8
#define TLS_TEXT_MAX   256
#define TLS_DIGEST_MAX 32

struct tls_files {
	const char *certificate; /* and its chain */
	const char *key;
	const char *client_ca; /* NULL: clients show none */
};

struct tls_certificate {
	char subject[TLS_TEXT_MAX];
	time_t not_before;
	time_t not_after;
};

struct tls_pair {
	unsigned int refs;
	gnutls_certificate_credentials_t credentials;
	struct tls_certificate chain[TLS_CHAIN_MAX]; /* the server's own first */
	size_t n_chain;
	char names[TLS_TEXT_MAX];  /* that it is for: "a.example, b.example" */
	unsigned int n_client_cas; /* 0: clients show no certificate */
	unsigned char
		digest[TLS_DIGEST_MAX]; /* of all files; leaves this process never */
};

/* Reads @files. The caller owns the one reference to *ret_pair. Blocks on local files only. 0, or
 * -errno with a sentence that names key and file. Certificates whose time is over are read
 * like others. */
int tls_pair_read(struct tls_pair **ret_pair, const struct tls_files *files,
                  struct err *err);
struct tls_pair *tls_pair_ref(struct tls_pair *pair);
void tls_pair_unref(struct tls_pair *pair); /* accepts NULL */

/* True, with a sentence: a client that looks at the time refuses the certificate at @now. */
bool tls_pair_is_late(const struct tls_pair *pair, time_t now, struct err *ret_why);

/* Prints @time as UTC, "2026-11-29T18:00:00Z". Returns @text. */
#define TLS_TIME_MAX 32
const char *tls_print_time(time_t time, char *text);
