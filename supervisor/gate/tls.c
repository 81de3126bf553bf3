/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The certificate in use. Credentials are given to each session before its handshake begins,
 * in the place of libmicrohttpd's, which cannot be changed while it runs: so a rotation needs
 * neither another daemon nor another listener, and lists of authorities rotate as well. The
 * watch reports each file by itself; files are read together when none of them is about to
 * be reported. Timers on the wall clock tell before a certificate's time is over, and when it
 * is.
 */
#include "supervisor/gate/tls.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "shared/log.h"
#include "supervisor/inputs/watch.h"

#define TLS_WATCHES 3
/* Seconds before the end from which on it is warned of. */
#define TLS_SOON_S ((time_t)7 * 24 * 3600)

struct tls {
	struct ev_loop *loop;
	struct tls_files files; /* texts are owned */
	struct tls_pair *pair;
	struct watch_path *paths[TLS_WATCHES];
	size_t n_paths;
	ev_periodic end;  /* of the pair's time, or before it */
	struct err error; /* why what lies on disk is not in use; "": it is */
	uint64_t n_rotations;
	uint64_t n_unfinished;
};

static time_t tls_not_after(const struct tls_pair *pair)
{
	time_t first = pair->chain[0].not_after;

	for (size_t i = 1; i < pair->n_chain; i++)
		if (pair->chain[i].not_after < first)
			first = pair->chain[i].not_after;
	return first;
}

/* Time */

/* Says how long the certificate is good, where that is short, and looks again when it will be
 * shorter. */
static void tls_look_at_time(struct tls *tls)
{
	time_t now = time(NULL);
	time_t not_after = tls_not_after(tls->pair);
	struct err why = ERR_NULL;
	char text[TLS_TIME_MAX];

	ev_periodic_stop(tls->loop, &tls->end);
	if (tls_pair_is_late(tls->pair, now, &why)) {
		log_event(LOG_LEVEL_ERR, "tls_late",
		          "reason=%s action=\"serving with it: put another one into %s "
		          "and %s\"",
		          LOG_QUOTED(why.text), tls->files.certificate, tls->files.key);
		return;
	}
	if (now >= not_after - TLS_SOON_S)
		log_event(LOG_LEVEL_WARNING, "tls_ends_soon", "not_after=%s path=%s",
		          tls_print_time(not_after, text),
		          LOG_QUOTED(tls->files.certificate));
	ev_periodic_set(&tls->end,
	                (double)(now >= not_after - TLS_SOON_S ? not_after + 1
	                                                       : not_after - TLS_SOON_S),
	                0., NULL);
	ev_periodic_start(tls->loop, &tls->end);
}

static void tls_on_time(struct ev_loop *loop, ev_periodic *periodic, int revents)
{
	(void)loop;
	(void)revents;
	tls_look_at_time(periodic->data);
}

/* Rotation */

static void tls_use(struct tls *tls, struct tls_pair *pair, const char *event)
{
	char text[TLS_TIME_MAX];

	tls_pair_unref(tls->pair);
	tls->pair = pair;
	log_event(LOG_LEVEL_NOTICE, event,
	          "subject=%s names=%s not_after=%s chain=%zu client_authorities=%u",
	          LOG_QUOTED(pair->chain[0].subject), LOG_QUOTED(pair->names),
	          tls_print_time(tls_not_after(pair), text), pair->n_chain,
	          pair->n_client_cas);
	tls_look_at_time(tls);
}

static void tls_refuse(struct tls *tls, const struct err *why)
{
	/* Watches may see the same files time and again. */
	if (strcmp(tls->error.text, why->text) != 0)
		log_event(LOG_LEVEL_ERR, "tls_refused",
		          "reason=%s action=\"keeping the one in use\"",
		          LOG_QUOTED(why->text));
	tls->error = *why;
}

/* True, with a sentence: @fresh would be worse than what is in use. */
static bool tls_is_worse(const struct tls *tls, const struct tls_pair *fresh,
                         struct err *ret_why)
{
	time_t now = time(NULL);
	struct err why = ERR_NULL;

	if (!tls_pair_is_late(fresh, now, &why) ||
	    tls_pair_is_late(tls->pair, now, &(struct err)ERR_NULL))
		return false;
	(void)err_set(ret_why, 0, "tls_certificate: %.200s: %.250s",
	              tls->files.certificate, why.text);
	return true;
}

static void tls_read_again(struct tls *tls)
{
	struct tls_pair *fresh = NULL;
	struct err why = ERR_NULL;

	if (tls_pair_read(&fresh, &tls->files, &why) < 0) {
		tls_refuse(tls, &why);
		return;
	}
	if (memcmp(fresh->digest, tls->pair->digest, sizeof(fresh->digest)) == 0) {
		if (*tls->error.text)
			log_event(LOG_LEVEL_NOTICE, "tls_back", "path=%s",
			          LOG_QUOTED(tls->files.certificate));
		tls->error = (struct err)ERR_NULL;
		tls_pair_unref(fresh);
		return;
	}
	if (tls_is_worse(tls, fresh, &why)) {
		tls_pair_unref(fresh);
		tls_refuse(tls, &why);
		return;
	}
	tls->error = (struct err)ERR_NULL;
	tls->n_rotations++;
	tls_use(tls, fresh, "tls_rotated");
}

static void tls_on_change(void *context, const char *path)
{
	struct tls *tls = context;

	(void)path;
	/* The one that is about to be reported comes here, too. */
	for (size_t i = 0; i < tls->n_paths; i++)
		if (!watch_is_settled(tls->paths[i]))
			return;
	tls_read_again(tls);
}

int tls_watch(struct tls *tls, struct watch *watch)
{
	const char *const paths[TLS_WATCHES] = { tls->files.certificate, tls->files.key,
		                                 tls->files.client_ca };
	int r = 0;

	for (size_t i = 0; r == 0 && i < TLS_WATCHES && paths[i]; i++) {
		r = watch_add(watch, paths[i], tls_on_change, tls, &tls->paths[i]);
		tls->n_paths += r == 0;
	}
	return r;
}

/* Birth and death */

static struct tls_files tls_files_of(const struct config *config)
{
	return (struct tls_files){ .certificate = config->tls_certificate,
		                   .key = config->tls_key,
		                   .client_ca = config->tls_client_ca };
}

int tls_check(const struct config *config, struct err *err)
{
	const struct tls_files files = tls_files_of(config);
	struct tls_pair *pair = NULL;
	struct err why = ERR_NULL;
	int r;

	if (!config->tls_certificate)
		return 0;
	r = tls_pair_read(&pair, &files, err);
	if (r == 0 && tls_pair_is_late(pair, time(NULL), &why))
		r = err_set(err, -EINVAL, "tls_certificate: %.200s: %.250s",
		            files.certificate, why.text);
	tls_pair_unref(pair);
	return r;
}

/* Owned copies: a configuration ends before the endpoint does. */
static int tls_take_files(struct tls *tls, const struct tls_files *files)
{
	tls->files.certificate = strdup(files->certificate);
	tls->files.key = strdup(files->key);
	tls->files.client_ca = files->client_ca ? strdup(files->client_ca) : NULL;
	return tls->files.certificate && tls->files.key &&
	                       (tls->files.client_ca || !files->client_ca)
	               ? 0
	               : -ENOMEM;
}

int tls_new(struct tls **ret_tls, struct ev_loop *loop, const struct config *config,
            struct err *err)
{
	const struct tls_files files = tls_files_of(config);
	struct tls_pair *pair = NULL;
	struct tls *tls;
	int r;

	*ret_tls = NULL;
	if (!config->tls_certificate)
		return 0;
	r = tls_pair_read(&pair, &files, err);
	if (r < 0)
		return r;
	tls = calloc(1, sizeof(*tls));
	if (!tls || tls_take_files(tls, &files) < 0) {
		tls_pair_unref(pair);
		tls_free(tls);
		return err_set(err, -ENOMEM, "out of memory");
	}
	tls->loop = loop;
	ev_periodic_init(&tls->end, tls_on_time, 0., 0., NULL);
	tls->end.data = tls;
	tls_use(tls, pair, "tls");
	*ret_tls = tls;
	return 0;
}

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	for (size_t i = 0; i < tls->n_paths; i++)
		watch_remove(tls->paths[i]);
	if (tls->loop)
		ev_periodic_stop(tls->loop, &tls->end);
	tls_pair_unref(tls->pair);
	free((void *)(uintptr_t)tls->files.certificate);
	free((void *)(uintptr_t)tls->files.key);
	free((void *)(uintptr_t)tls->files.client_ca);
	free(tls);
}

/* Sessions */

/* Clients show a certificate for clients, of an authority that is known; the handshake of
 * others fails. */
static void tls_ask_client(gnutls_session_t session)
{
	/* GnuTLS keeps the pointers, and writes nothing there. */
	static unsigned char oid[] = GNUTLS_KP_TLS_WWW_CLIENT;
	static gnutls_typed_vdata_st purpose = {
		.type = GNUTLS_DT_KEY_PURPOSE_OID,
		.data = oid,
	};

	gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_cert2(session, &purpose, 1, 0);
}

struct tls_pair *tls_begin(struct tls *tls, gnutls_session_t session,
                           const char *protocol)
{
	gnutls_datum_t alpn = { (unsigned char *)(uintptr_t)protocol,
		                (unsigned int)strlen(protocol) };

	if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE,
	                           tls->pair->credentials) < 0)
		return NULL;
	(void)gnutls_alpn_set_protocols(session, &alpn, 1, 0);
	if (tls->pair->n_client_cas > 0)
		tls_ask_client(session);
	return tls_pair_ref(tls->pair);
}

void tls_end(struct tls *tls, struct tls_pair *pair, bool is_finished)
{
	tls->n_unfinished += !is_finished;
	tls_pair_unref(pair);
}

/* What it tells */

struct tls_figures tls_figures(const struct tls *tls)
{
	time_t not_after = tls_not_after(tls->pair);

	return (struct tls_figures){
		.not_after_s = not_after > 0 ? (uint64_t)not_after : 0,
		.is_stale = *tls->error.text,
		.rotations = tls->n_rotations,
		.unfinished = tls->n_unfinished,
	};
}

static json_t *tls_chain_to_json(const struct tls_pair *pair)
{
	json_t *chain = json_array();
	char text[TLS_TIME_MAX];

	for (size_t i = 0; i < pair->n_chain; i++)
		(void)json_array_append_new(
			chain, json_pack("{s:s,s:s}", "subject", pair->chain[i].subject,
		                         "not_after",
		                         tls_print_time(pair->chain[i].not_after, text)));
	return chain;
}

json_t *tls_to_json(const struct tls *tls)
{
	char text[TLS_TIME_MAX];
	struct err why = ERR_NULL;

	if (!tls)
		return json_null();
	(void)tls_pair_is_late(tls->pair, time(NULL), &why);
	return json_pack("{s:s,s:s,s:s,s:s?,s:s,s:o,s:i,s:I,s:I,s:s?}", "path",
	                 tls->files.certificate, "subject", tls->pair->chain[0].subject,
	                 "names", tls->pair->names, "late", *why.text ? why.text : NULL,
	                 "not_after", tls_print_time(tls_not_after(tls->pair), text),
	                 "chain", tls_chain_to_json(tls->pair), "client_authorities",
	                 (int)tls->pair->n_client_cas, "rotations_total",
	                 (json_int_t)tls->n_rotations, "unfinished_total",
	                 (json_int_t)tls->n_unfinished, "error",
	                 *tls->error.text ? tls->error.text : NULL);
}
