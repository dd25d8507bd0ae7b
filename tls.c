/* SPDX-License-Identifier: ISC
 *
 * tls.c - the TLS connection: context, handshake, and the connection as a stream (steps 3, 7 and 9).
 *
 * OpenSSL reads and writes through a BIO of ours over the transport's stream, so that several records leave in one write and nothing ever blocks. One
 * function, judge(), says what a call of OpenSSL came to; SSL_get_error stands nowhere else.
 */
#include "tls.h"
#include "tls/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#define RECORD_MAX                                                                                 \
	8192 /* plaintext in a record to the client: PostgreSQL's own limit, see DESIGN */
#define WRITE_MAX 65536 /* plaintext taken in one write */
/* The same as records, and room for an alert or a KeyUpdate. */
#define OUT_SIZE (WRITE_MAX + WRITE_MAX / RECORD_MAX * 256 + 4096)
/* Reads of the transport in one call of OpenSSL, which goes on by itself as long as KeyUpdates come. */
#define READS_MAX 4
/* What one such read may bring in the handshake, one record of any size (RFC 8446, 5.2), and after it. */
#define IN_SIZE   (16384 + 2048)
#define BULK_SIZE 65536
#define KIND_SIZE 32 /* the name of a key type: "RSA", "SLH-DSA-SHAKE-128s" */

struct tls {
	struct stream stream; /* first: a pointer to it is a pointer to this */
	SSL_CTX *ctx;
	SSL *ssl;
	struct stream *raw;
	const struct options *options;
	bool direct;
	char failure[128];      /* why the connection broke */
	unsigned reads;         /* of the transport, within the call of OpenSSL at hand */
	bool more;              /* what was read may not be all that is inside */
	bool out_failed;        /* the transport took no more */
	size_t out_at, out_len; /* records not yet sent: out[out_at..out_len) */
	unsigned char *out;     /* OUT_SIZE bytes, while there are any: idle connections are many */
};

/* ---- the BIO: OpenSSL's side of the transport ---- */

static enum io_status flush(struct tls *t)
{
	while (t->out_at < t->out_len && !t->out_failed) {
		size_t n = 0;
		enum io_status io =
		    t->raw->verbs->write(t->raw, t->out + t->out_at, t->out_len - t->out_at, &n);

		if (io == IO_WANT_WRITE)
			return io;
		t->out_failed = io != IO_DONE;
		t->out_at += n;
	}
	if (t->out_failed)
		return IO_FAILED;
	t->out_at = t->out_len = 0;
	free(t->out);
	t->out = NULL;
	return IO_DONE;
}

/* Records are only collected here; judge() sends them. */
static int bio_write(BIO *bio, const char *buf, int len)
{
	struct tls *t = BIO_get_data(bio);
	size_t room, n = (size_t)len;

	BIO_clear_retry_flags(bio);
	if (OUT_SIZE - t->out_len < n && flush(t) == IO_FAILED)
		return -1;
	if (t->out == NULL && (t->out = malloc(OUT_SIZE)) == NULL)
		return -1;
	room = OUT_SIZE - t->out_len;
	if (room == 0) {
		BIO_set_retry_write(bio);
		return -1;
	}
	if (n > room)
		n = room;
	memcpy(t->out + t->out_len, buf, n);
	t->out_len += n;
	return (int)n;
}

static int bio_read(BIO *bio, char *buf, int len)
{
	struct tls *t = BIO_get_data(bio);
	size_t n = 0;

	BIO_clear_retry_flags(bio);
	BIO_clear_flags(bio, BIO_FLAGS_IN_EOF);
	if (t->reads++ == READS_MAX) { /* back to whoever watches the deadline */
		BIO_set_retry_read(bio);
		return -1;
	}
	switch (t->raw->verbs->read(t->raw, buf, (size_t)len, &n)) {
	case IO_DONE:
		return (int)n;
	case IO_WANT_READ:
		BIO_set_retry_read(bio);
		return -1;
	case IO_END:
		BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
		return 0;
	default:
		return -1;
	}
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)number;
	(void)pointer;
	if (command == BIO_CTRL_FLUSH)
		return 1; /* judge() does it */
	if (command == BIO_CTRL_EOF)
		return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
	return 0;
}

static bool attach_bio(struct tls *t, struct stream *raw)
{
	BIO_METHOD *method =
	    BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pgssl stream");

	if (method == NULL || BIO_meth_set_write(method, bio_write) != 1 ||
	    BIO_meth_set_read(method, bio_read) != 1 || BIO_meth_set_ctrl(method, bio_ctrl) != 1)
		return false;
	BIO *bio = BIO_new(method);
	if (bio == NULL)
		return false;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	t->raw = raw;
	t->stream.rfd = raw->rfd;
	t->stream.wfd = raw->wfd;
	return true;
}

/* Before each call of OpenSSL. */
static void begin(struct tls *t)
{
	ERR_clear_error();
	t->reads = 0;
}

/* What a call of OpenSSL that returned `result` came to. The error queue was empty before the call. Sends what the call made. */
static enum io_status judge(struct tls *t, int result)
{
	int error = SSL_get_error(t->ssl, result);

	enum io_status sent = flush(t);
	switch (error) {
	case SSL_ERROR_NONE:
		return IO_DONE;
	case SSL_ERROR_WANT_READ:
		return IO_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return sent == IO_FAILED ? IO_FAILED : IO_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return IO_END;
	default:
		strlcpy(t->failure, openssl_reason(""), sizeof t->failure);
		return IO_FAILED;
	}
}

/* ---- the stream ---- */

static enum io_status tls_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	struct tls *t = (struct tls *)s;

	begin(t);
	enum io_status io = judge(t, SSL_read_ex(t->ssl, buf, size, got));
	/* Part of a record may lie inside, which a further read cannot use: only a success makes another try worth while. */
	t->more = io == IO_DONE && SSL_has_pending(t->ssl) == 1;
	return io;
}

static enum io_status tls_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	struct tls *t = (struct tls *)s;

	enum io_status io = flush(t);
	if (io != IO_DONE)
		return io;
	*put = 0;
	if (size == 0)
		return IO_DONE;
	begin(t);
	io = judge(t, SSL_write_ex(t->ssl, buf, size < WRITE_MAX ? size : WRITE_MAX, put));
	return t->out_failed ? IO_FAILED : io;
}

static unsigned tls_pending(struct stream *s)
{
	struct tls *t = (struct tls *)s;

	return (t->more ? STREAM_READABLE : 0) |
	       (t->out_at < t->out_len && !t->out_failed ? STREAM_UNSENT : 0);
}

static enum io_status tls_shut(struct stream *s)
{
	struct tls *t = (struct tls *)s;

	if ((SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN) == 0) {
		begin(t);
		SSL_shutdown(t->ssl); /* close_notify; the peer's is not waited for */
	}
	return flush(t);
}

static const struct stream_verbs tls_verbs = {tls_read, tls_write, tls_pending, tls_shut};

/* ---- the context ---- */

/* PostgreSQL's protocol name for ALPN (PostgreSQL 17, "SSL Session Encryption"; RFC 7301). */
const unsigned char alpn_postgresql[] = "\012postgresql";

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		       const unsigned char *in, unsigned in_len, void *arg)
{
	unsigned char *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, out_len, alpn_postgresql, ALPN_POSTGRESQL_LEN, in,
				  in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* --alpn=require: a client that begins TLS at once must say that it wants PostgreSQL (ALPACA attack: a browser would not). */
static int demand_alpn(SSL *ssl, int *alert, void *arg)
{
	struct tls *t = arg;
	const unsigned char *extension;
	size_t len;

	if (!t->direct || t->options->alpn != ALPN_REQUIRE ||
	    SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation,
				      &extension, &len) == 1)
		return SSL_CLIENT_HELLO_SUCCESS;
	*alert = SSL_AD_NO_APPLICATION_PROTOCOL;
	return SSL_CLIENT_HELLO_ERROR;
}

static bool set_context(struct tls *t, const struct options *o, struct error *e)
{
	static const unsigned char session_context[] = "pgssl";

	/* No cache, no tickets (TLS 1.2; TLS 1.3 below), no renegotiation, no compression. */
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(t->ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
					SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
					SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_clear_options(t->ctx, SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION |
					  SSL_OP_LEGACY_SERVER_CONNECT);
	SSL_CTX_set_session_id_context(t->ctx, session_context, sizeof session_context - 1);
	SSL_CTX_set_alpn_select_cb(t->ctx, select_alpn, NULL);
	SSL_CTX_set_client_hello_cb(t->ctx, demand_alpn, t);
	/* One read takes all that is there, and an idle session holds no buffers. */
	SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(t->ctx, 1);
	SSL_CTX_set_default_read_buffer_len(t->ctx, IN_SIZE);
	if (SSL_CTX_set_num_tickets(t->ctx, 0) != 1 ||
	    SSL_CTX_set_max_send_fragment(t->ctx, RECORD_MAX) != 1)
		return fail(e, EX_SOFTWARE, "OpenSSL refuses its settings: %s",
			    openssl_reason("no reason given"));
	return settings_apply(t->ctx, o, e);
}

/*
 * Give the certificate `which` to the SSL object. `kinds` holds the key types of all certificates: OpenSSL keeps
 * one certificate of each, so a second of the same type would replace the first.
 */
static bool use_certificate(struct tls *t, const struct options *o, int which,
			    char kinds[OPTIONS_CERTS][KIND_SIZE], struct error *e)
{
	const char *file = o->cert[which];
	struct credential c;

	if (!credential_load(&c, file, which == 0 ? o->key : NULL, o->passphrase_command, e))
		return false;
	strlcpy(kinds[which], EVP_PKEY_get0_type_name(c.key), KIND_SIZE);
	bool ok = credential_use(t->ssl, &c, file, e);
	credential_free(&c);
	if (ok && which > 0 && strcmp(kinds[0], kinds[which]) == 0)
		return fail(e, EX_CONFIG,
			    "\"%s\" and \"%s\" both have %s keys: two certificates must have "
			    "different types of "
			    "keys, for instance RSA and EC",
			    o->cert[0], file, kinds[which]);
	return ok;
}

/* Not everything is freed at exit: the kernel does that. */
static void init_library(void)
{
	static bool begun;

	if (begun) /* the parent of -d loads changed files */
		return;
	begun = true;
	wiping_memory_install();
	OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL);
}

static bool open_ssl(struct tls *t, const struct options *o, struct error *e)
{
	char kinds[OPTIONS_CERTS][KIND_SIZE];

	t->stream.verbs = &tls_verbs;
	t->options = o;
	t->ctx = SSL_CTX_new(o->client ? TLS_client_method() : TLS_server_method());
	if (t->ctx == NULL)
		return fail(e, EX_SOFTWARE,
			    "could not initialise OpenSSL (is openssl.cnf in order?): %s",
			    openssl_reason("no reason given"));
	if (!set_context(t, o, e))
		return false;
	if (o->ca != NULL && !o->client) {
		if (!trust_load(t->ctx, o->ca, o->crl, e))
			return false;
		peer_ask(t->ctx);
	} else {
		/* Over VerifyMode of openssl.cnf: without -A no certificate could be verified. */
		SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);
	}
	t->ssl = SSL_new(t->ctx);
	if (t->ssl == NULL)
		return fail(e, EX_OSERR, "out of memory");
	wiping_memory_begin();
	for (int i = 0; i < OPTIONS_CERTS && o->cert[i] != NULL; i++)
		if (!use_certificate(t, o, i, kinds, e))
			return false;
	return !o->client || client_open(t->ssl, o, e);
}

bool tls_open(struct tls **out, const struct options *o, struct error *e)
{
	struct tls *t = calloc(1, sizeof *t);

	if (t == NULL)
		return fail(e, EX_OSERR, "out of memory");
	init_library();
	if (!open_ssl(t, o, e)) {
		tls_discard(t);
		return false;
	}
	*out = t;
	return true;
}

void tls_discard(struct tls *t)
{
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
	free(t->out);
	free(t);
}

void tls_send_internal_error(struct stream *raw, deadline when)
{
	/* RFC 8446, 5.1 and 6: alert, TLS 1.2 on the wire, length 2, fatal, internal_error. There is no SSL object that could say it. */
	static const unsigned char alert[] = {21, 3, 3, 0, 2, 2, 80};

	if (stream_write_all(raw, alert, sizeof alert, when) != IO_DONE)
		log_peer_line(LOG_DEBUG, "the client did not take the alert");
}

/* ---- the handshake ---- */

void tls_wipe_key(struct tls *t)
{
	SSL_certs_clear(t->ssl);
	wiping_memory_end();
}

static enum io_status handshake(struct tls *t, deadline when)
{
	for (;;) {
		begin(t);
		enum io_status io = judge(t, SSL_do_handshake(t->ssl));

		if (io != IO_WANT_READ && io != IO_WANT_WRITE)
			return io;
		io = stream_wait(t->raw, io, when);
		if (io != IO_DONE)
			return io;
	}
}

static bool handshake_failed(struct error *e, enum io_status io)
{
	if (peer_refusal.status != 0) {
		*e = peer_refusal;
		return false;
	}
	if (io == IO_TIMEOUT)
		return fail(e, EX_PROTOCOL, "client did not finish the TLS handshake in time");
	if (io == IO_TERMINATED)
		return fail(e, EX_PROTOCOL, "terminated by SIGTERM during the TLS handshake");
	if (io == IO_END || ERR_peek_error() == 0 ||
	    ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return fail(e, EX_PROTOCOL,
			    "could not accept TLS connection: client closed the connection during "
			    "the handshake");
	return fail(e, EX_PROTOCOL, "could not accept TLS connection: %s",
		    openssl_reason("unknown error"));
}

static void begin_session(struct tls *t)
{
	SSL_set_default_read_buffer_len(t->ssl, BULK_SIZE);
	t->more = SSL_has_pending(t->ssl) == 1;
}

bool tls_accept(struct tls *t, struct stream *raw, bool direct, deadline when, struct error *e)
{
	t->direct = direct;
	SSL_set_accept_state(t->ssl);
	if (!attach_bio(t, raw))
		return fail(e, EX_OSERR, "out of memory");
	enum io_status io = handshake(t, when);
	tls_wipe_key(t);
	if (io != IO_DONE)
		return handshake_failed(e, io);
	begin_session(t);
	return true;
}

static bool connect_failed(struct tls *t, struct error *e, enum io_status io)
{
	if (peer_refusal.status != 0) {
		*e = peer_refusal;
		return false;
	}
	if (io == IO_TIMEOUT)
		return fail(e, EX_UNAVAILABLE,
			    "the server did not finish the TLS handshake in time");
	if (io == IO_TERMINATED)
		return fail(e, EX_UNAVAILABLE, "terminated by SIGTERM during the TLS handshake");
	return fail(e, EX_UNAVAILABLE, "%s",
		    t->failure[0] != '\0'
			? t->failure
			: "the server closed the connection during the handshake");
}

bool tls_connect(struct tls *t, struct stream *raw, deadline when, struct error *e)
{
	SSL_set_connect_state(t->ssl);
	if (!attach_bio(t, raw))
		return fail(e, EX_OSERR, "out of memory");
	enum io_status io = handshake(t, when);
	tls_wipe_key(t);
	if (io != IO_DONE)
		return connect_failed(t, e, io);
	/* Anonymous ciphers (-C) have no certificate to verify. */
	if (t->options->sslmode != SSLMODE_REQUIRE && SSL_get0_peer_certificate(t->ssl) == NULL)
		return fail(e, EX_UNAVAILABLE, "the server has no certificate");
	begin_session(t);
	return true;
}

const char *tls_failure(const struct tls *t)
{
	return t->failure;
}

SSL *tls_ssl(const struct tls *t)
{
	return t->ssl;
}

struct stream *tls_stream(struct tls *t)
{
	return &t->stream;
}
