/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * TLS of the endpoint: which certificate new connections get, watched on disk and replaced
 * without a dropped one. A pair that is of no use, or whose time is over while that of the
 * one in use is not, changes nothing and is told loudly. Handshakes are libmicrohttpd's.
 */

#include <ev.h>
#include <gnutls/gnutls.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/gate/tls_pair.h"

struct tls;
struct watch;

/* TLS 1.3 and 1.2, with fresh keys for each connection and ciphers that authenticate what they
 * encrypt; in GnuTLS' words. */
#define TLS_PRIORITIES                                                                   \
	"NONE:+VERS-TLS1.3:+VERS-TLS1.2:+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305:"   \
	"+ECDHE-ECDSA:+ECDHE-RSA:+AEAD:+COMP-NULL:+GROUP-X25519:+GROUP-SECP256R1:"       \
	"+GROUP-SECP384R1:+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:"    \
	"+SIGN-ECDSA-SHA256:+SIGN-ECDSA-SHA384:+SIGN-ECDSA-SHA512:+SIGN-EDDSA-ED25519:"  \
	"+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-PSS-RSAE-SHA384:+SIGN-RSA-PSS-RSAE-SHA512:" \
	"+SIGN-RSA-SHA256:+SIGN-RSA-SHA384:+SIGN-RSA-SHA512:+CTYPE-X509:"                \
	"%SERVER_PRECEDENCE"

struct tls_figures {
	uint64_t not_after_s; /* since the Unix epoch, of what ends first */
	bool is_stale;        /* what lies on disk is of no use */
	uint64_t rotations;
	uint64_t unfinished; /* connections that ended before their handshake did */
};

/* Whether @config's files are of use now. 0, also where it names none, or -errno with a
 * sentence. */
int tls_check(const struct config *config, struct err *err);

/* Reads what @config names; NULL in *ret_tls: nothing. A certificate whose time is over is
 * used, and said to be. 0 or -errno with a sentence. */
int tls_new(struct tls **ret_tls, struct ev_loop *loop, const struct config *config,
            struct err *err);
/* Has the files watched; tls_free() ends that. 0 or -errno. */
int tls_watch(struct tls *tls, struct watch *watch);
/* Due when no connection is left. Accepts NULL. */
void tls_free(struct tls *tls);

/* Gives @session, whose handshake has not begun, the certificate in use, and has it agree on
 * @protocol (RFC 7301) with clients that name protocols. Returns a reference to the certificate,
 * for tls_end() when the session has ended; NULL: out of memory. */
struct tls_pair *tls_begin(struct tls *tls, gnutls_session_t session,
                           const char *protocol);
void tls_end(struct tls *tls, struct tls_pair *pair, bool is_finished);

struct tls_figures tls_figures(const struct tls *tls);
/* A new reference; null for NULL. */
json_t *tls_to_json(const struct tls *tls);
