/* SPDX-License-Identifier: ISC
 *
 * tls.c - the TLS connection: context, handshake, and the connection as a stream.
 *
 * OpenSSL reads and writes through a BIO of ours over the transport's stream, so that several
 * records leave in one write and no call blocks. map_result() alone calls SSL_get_error.
 */
#include "tls.h"
#include "tls/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/conf.h>
#include <openssl/err.h>

#define WRITE_MAX 65536 /* plaintext per write */
/* WRITE_MAX bytes as records, and room for an alert or a KeyUpdate. */
#define OUT_SIZE (WRITE_MAX + WRITE_MAX / TLS_RECORD_MAX * 256 + 4096)
/* Reads of the transport in one call of OpenSSL, which would go on as long as KeyUpdates come. */
#define READS_MAX 4
#define BULK_SIZE 65536 /* size of a read once the handshake is done */
/* A ClientHello that uses OpenSSL's lists badly costs 80 ms of processor time with 64 KiB. Clients
 * send up to 5, or 20 if they name many authorities. */
#define HELLO_MAX 32768
/* A KeyUpdate costs ten times as much as a record of data, and OpenSSL takes any number. */
#define KEY_UPDATES_PER_S 32
#define THROTTLE_PAUSE_MS 100 /* how late a throttled session may notice a deadline or SIGTERM */
/* Files that may be being replaced are read again for a while. */
#define RETRIES        8
#define RETRY_PAUSE_NS (5 * 1000000L) /* and twice as long each time: 0.6 s in all */
#define RETRY_LIMIT_MS 1000           /* large revocation lists take long */

/* ---- the BIO: OpenSSL's side of the transport ---- */

static enum io_status failure(const struct tls *t)
{
	return t->no_memory ? IO_NO_MEMORY : IO_FAILED;
}

static enum io_status send_records(struct tls *t)
{
	while (t->out_at < t->out_len && !t->out_failed) {
		size_t n = 0;
		enum io_status io =
		    t->raw->verbs->write(t->raw, t->out + t->out_at, t->out_len - t->out_at, &n);

		if (io == IO_WANT_WRITE)
			return io;
		t->out_failed = io != IO_DONE;
		t->no_memory |= io == IO_NO_MEMORY;
		t->out_at += n;
	}
	if (t->out_failed)
		return failure(t);
	t->out_at = t->out_len = 0;
	free(t->out);
	t->out = NULL;
	return IO_DONE;
}

/* Only collects records; map_result() sends them. */
static int bio_write(BIO *bio, const char *buf, int len)
{
	struct tls *t = BIO_get_data(bio);
	size_t room, n = (size_t)len;

	BIO_clear_retry_flags(bio);
	if (OUT_SIZE - t->out_len < n)
		(void)send_records(t);
	if (t->out == NULL)
		t->out = malloc(OUT_SIZE);
	t->no_memory |= t->out == NULL;
	if (t->out == NULL || t->out_failed)
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

/* OpenSSL calls this for each message. */
static void note_message(int written, int version, int type, const void *bytes, size_t len,
			 SSL *ssl, void *arg)
{
	int message = len > 0 ? *(const unsigned char *)bytes : -1;
	struct tls *t = arg;

	(void)version, (void)ssl;
	if (written != 0 || type != SSL3_RT_HANDSHAKE)
		return;
	if (message == SSL3_MT_CLIENT_HELLO)
		t->hello_len = len;
	if (message == SSL3_MT_KEY_UPDATE && t->key_updates++ == 0)
		t->key_updates_until = deadline_in(1000);
}

/* A peer that floods us with KeyUpdates is read from only once a second. */
static bool throttle(struct tls *t)
{
	int left = t->key_updates > 0 ? deadline_left(t->key_updates_until) : 0;

	if (left == 0)
		t->key_updates = 0;
	if (t->key_updates <= KEY_UPDATES_PER_S)
		return false;
	if (left > THROTTLE_PAUSE_MS)
		left = THROTTLE_PAUSE_MS;
	(void)ppoll(NULL, 0, &(struct timespec){.tv_nsec = left * 1000000L}, NULL);
	return true;
}

static int bio_read(BIO *bio, char *buf, int len)
{
	struct tls *t = BIO_get_data(bio);
	size_t n = 0;

	BIO_clear_retry_flags(bio);
	BIO_clear_flags(bio, BIO_FLAGS_IN_EOF);
	if (t->reads++ == READS_MAX || throttle(t)) { /* let the caller check its deadline */
		BIO_set_retry_read(bio);
		return -1;
	}
	enum io_status io = t->raw->verbs->read(t->raw, buf, (size_t)len, &n);
	t->no_memory |= io == IO_NO_MEMORY;
	switch (io) {
	case IO_DONE:
		t->heard = true;
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
	(void)number, (void)pointer;
	if (command == BIO_CTRL_FLUSH)
		return 1; /* left to map_result() */
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

/* Must precede each call of OpenSSL whose result goes to map_result(). */
static void prepare_call(struct tls *t)
{
	ERR_clear_error();
	(void)tls_no_memory();
	t->reads = 0;
}

/* Map the result of a call of OpenSSL to a status, and send the records that it produced. */
static enum io_status map_result(struct tls *t, int result)
{
	int error = SSL_get_error(t->ssl, result);

	enum io_status sent = send_records(t);
	switch (error) {
	case SSL_ERROR_NONE:
		return IO_DONE;
	case SSL_ERROR_WANT_READ:
		return IO_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return t->out_failed ? sent : IO_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return IO_END;
	default:
		t->no_memory |= tls_no_memory();
		if (!t->no_memory)
			strlcpy(t->failure, tls_reason(""), sizeof t->failure);
		return failure(t);
	}
}

/* ---- the stream ---- */

static enum io_status tls_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	struct tls *t = (struct tls *)s;

	prepare_call(t);
	enum io_status io = map_result(t, SSL_read_ex(t->ssl, buf, size, got));
	/* After a failure only part of a record can be pending, which a further read cannot use. */
	t->more = io == IO_DONE && SSL_has_pending(t->ssl) == 1;
	return io;
}

static enum io_status tls_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	struct tls *t = (struct tls *)s;

	enum io_status io = send_records(t);
	if (io != IO_DONE)
		return io;
	*put = 0;
	if (size == 0)
		return IO_DONE;
	prepare_call(t);
	io = map_result(t, SSL_write_ex(t->ssl, buf, size < WRITE_MAX ? size : WRITE_MAX, put));
	return t->out_failed ? failure(t) : io;
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
		prepare_call(t);
		if (SSL_shutdown(t->ssl) < 0) { /* sends close_notify; awaits no other */
			t->no_memory |= tls_no_memory();
			return failure(t);
		}
	}
	return send_records(t);
}

static const struct stream_verbs tls_verbs = {tls_read, tls_write, tls_pending, tls_shut};

/* ---- the context ---- */

/* Limit its length. --alpn=require: a direct client must ask for PostgreSQL, as no browser does
 * (ALPACA attack). */
static int check_hello(SSL *ssl, int *alert, void *arg)
{
	struct tls *t = arg;
	const unsigned char *extension;
	size_t len;

	if (t->hello_len > HELLO_MAX) {
		*alert = SSL_AD_DECODE_ERROR;
		fail(&tls_refusal, EX_PROTOCOL,
		     "could not accept TLS connection: ClientHello of %zu bytes is too long",
		     t->hello_len);
		return SSL_CLIENT_HELLO_ERROR;
	}
	if (!t->direct || t->options->alpn != ALPN_REQUIRE ||
	    SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation,
				      &extension, &len) == 1)
		return SSL_CLIENT_HELLO_SUCCESS;
	*alert = SSL_AD_NO_APPLICATION_PROTOCOL;
	return SSL_CLIENT_HELLO_ERROR;
}

/* OpenSSL's own default goes on without a policy that it cannot read. */
#define CONFIG_FLAGS                                                                               \
	(CONF_MFLAGS_DEFAULT_SECTION | CONF_MFLAGS_IGNORE_MISSING_FILE | CONF_MFLAGS_IGNORE_ERRORS)

static bool fail_config(struct error *e)
{
	char *file = CONF_get1_default_config_file();

	fail(e, EX_CONFIG, "OpenSSL could not read its settings in \"%s\": %s",
	     file != NULL ? file : "openssl.cnf", tls_reason("no reason given"));
	OPENSSL_free(file);
	return false;
}

static bool init_library(struct error *e)
{
	static bool done;

	if (done)
		return true;
	tls_install_wiping();
	OPENSSL_INIT_SETTINGS *settings = OPENSSL_INIT_new();
	if (settings == NULL)
		die(EX_OSERR, "out of memory");
	OPENSSL_INIT_set_config_file_flags(settings, CONFIG_FLAGS);
	/* No clean-up at exit: the kernel does it faster. */
	done = OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, settings) == 1;
	OPENSSL_INIT_free(settings);
	tls_started();
	unsigned long error = ERR_peek_error();
	bool no_fopen = ERR_SYSTEM_ERROR(error) && ERR_GET_REASON(error) == ENOMEM;
	if (!done)
		return no_fopen ? fail(e, EX_OSERR, "out of memory") : fail_config(e);
	tls_read_site_policy();
	return true;
}

static bool open_ssl(struct tls *t, const struct options *o, struct error *e)
{
	t->stream.verbs = &tls_verbs;
	t->options = o;
	t->ctx = SSL_CTX_new(o->client ? TLS_client_method() : TLS_server_method());
	if (t->ctx == NULL)
		return fail(e, EX_SOFTWARE, "could not initialise OpenSSL (see openssl.cnf): %s",
			    tls_reason("no reason given"));
	SSL_CTX_set_client_hello_cb(t->ctx, check_hello, t);
	SSL_CTX_set_msg_callback(t->ctx, note_message);
	SSL_CTX_set_msg_callback_arg(t->ctx, t);
	if (!tls_apply_settings(t->ctx, o, e))
		return false;
	t->retry = !tls_load_trust(t->ctx, o, e);
	if (t->retry)
		return false;
	t->ssl = SSL_new(t->ctx);
	if (t->ssl == NULL)
		return fail(e, EX_OSERR, "out of memory");
	tls_wiping(true);
	for (int i = 0; i < OPTIONS_CERTS && o->cert[i] != NULL; i++)
		if (!tls_load_certificate(t->ssl, o, i, &t->retry, e))
			return false;
	return !o->client || tls_set_up_client(t->ssl, o, e);
}

bool tls_open(struct tls **out, const struct options *o, struct error *e)
{
	deadline limit = deadline_in(RETRY_LIMIT_MS);
	long pause = RETRY_PAUSE_NS;

	if (!init_library(e))
		return false;
	for (int i = 1;; i++) {
		struct tls *t = calloc(1, sizeof *t);

		bool opened = t != NULL && open_ssl(t, o, e);
		/* OpenSSL may have gone on without a part of openssl.cnf. */
		bool no_memory = t == NULL || tls_no_memory();
		if (opened && !no_memory) {
			*out = t;
			return true;
		}
		bool retry = !no_memory && t->retry && i < RETRIES && deadline_left(limit) > 0;
		tls_discard(t);
		if (no_memory)
			return fail(e, EX_OSERR, "out of memory");
		if (!retry)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = pause}, NULL);
		pause *= 2;
	}
}

void tls_discard(struct tls *t)
{
	if (t == NULL)
		return;
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
	free(t);
}

void tls_send_internal_error(struct stream *raw, deadline when)
{
	/* RFC 8446, 5.1 and 6: alert, TLS 1.2 on the wire, length 2, fatal, internal_error. */
	static const unsigned char alert[] = {21, 3, 3, 0, 2, 2, 80};

	(void)!stream_write_all(raw, alert, sizeof alert, when);
}

/* ---- the handshake ---- */

void tls_wipe_key(struct tls *t)
{
	SSL_certs_clear(t->ssl);
	tls_wiping(false);
}

static enum io_status run_handshake(struct tls *t, deadline when)
{
	enum io_status io;

	do {
		prepare_call(t);
		io = map_result(t, SSL_do_handshake(t->ssl));
		/* OpenSSL may go on, to another error, or as if a certificate had no names. */
		t->no_memory |= tls_no_memory();
		if (t->out_failed && t->no_memory) /* no answer can come, and there may be no end */
			return IO_NO_MEMORY;
		if (io != IO_WANT_READ && io != IO_WANT_WRITE)
			break;
		io = stream_wait(&t->stream, io, when);
	} while (io == IO_DONE);
	return t->no_memory ? IO_NO_MEMORY : io;
}

static bool handshake_failed(const struct tls *t, enum io_status io, struct error *e)
{
	bool client = t->options->client;
	int status = client ? EX_UNAVAILABLE : EX_PROTOCOL;
	const char *peer = client ? "the server" : "client";
	const char *prefix = client ? "" : "could not accept TLS connection: ";

	if (io == IO_NO_MEMORY)
		return fail(e, EX_OSERR, "%sout of memory", prefix);
	if (tls_refusal.status != 0) {
		*e = tls_refusal;
		return false;
	}
	if (io == IO_TIMEOUT)
		return fail(e, status, "%s did not finish the TLS handshake in time", peer);
	if (io == IO_TERMINATED)
		return fail(e, status, "terminated by SIGTERM during the TLS handshake");
	bool gone = io == IO_END || t->failure[0] == '\0' ||
		    ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
	if (gone && !client && !t->heard)
		status = EX_OK;
	if (gone)
		return fail(e, status, "%s%s closed the connection during the handshake", prefix,
			    peer);
	return fail(e, status, "%s%s", prefix, t->failure);
}

static bool start_session(struct tls *t, struct stream *raw, deadline when, struct error *e)
{
	if (t->options->client)
		SSL_set_connect_state(t->ssl);
	else
		SSL_set_accept_state(t->ssl);
	/* OpenSSL does not say that it had no memory for a record layer; SSL_set_bio() uses it. */
	if (tls_no_memory() || !attach_bio(t, raw))
		return fail(e, EX_OSERR, "out of memory");
	enum io_status io = run_handshake(t, when);
	tls_wipe_key(t);
	if (io != IO_DONE)
		return handshake_failed(t, io, e);
	t->no_memory = false;
	SSL_set_default_read_buffer_len(t->ssl, BULK_SIZE);
	/*
	 * Hold no buffers while idle. Not before: each buffer that the handshake releases would be
	 * wiped, all of it, and the next one allocated.
	 */
	SSL_set_mode(t->ssl, SSL_MODE_RELEASE_BUFFERS);
	t->more = SSL_has_pending(t->ssl) == 1;
	return true;
}

bool tls_accept(struct tls *t, struct stream *raw, bool direct, deadline when, struct error *e)
{
	t->direct = direct;
	return start_session(t, raw, when, e);
}

bool tls_connect(struct tls *t, struct stream *raw, deadline when, struct error *e)
{
	if (!start_session(t, raw, when, e))
		return false;
	/* Anonymous ciphers (-C) have no certificate to verify. */
	return t->options->sslmode == SSLMODE_REQUIRE ||
	       SSL_get0_peer_certificate(t->ssl) != NULL ||
	       fail(e, EX_UNAVAILABLE, "the server has no certificate");
}

bool tls_try_handshake(struct tls *t, struct error *e)
{
	SSL *client = SSL_new(t->ctx);
	BIO *a = NULL, *b = NULL;
	bool done = false;

	SSL_set_ssl_method(client, TLS_client_method());
	SSL_set_verify(client, SSL_VERIFY_NONE, NULL);
	BIO_new_bio_pair(&a, 0, &b, 0);
	SSL_set_bio(client, a, a);
	SSL_set_bio(t->ssl, b, b);
	ERR_clear_error();
	for (int i = 0; i < 100 && !done && ERR_peek_error() == 0; i++) {
		done = SSL_connect(client) == 1;
		done = SSL_accept(t->ssl) == 1 && done;
	}
	SSL_free(client);
	tls_wipe_key(t);
	return done || fail(e, EX_CONFIG, "%s", tls_reason("no reason given"));
}

const char *tls_failure(const struct tls *t)
{
	return t->failure;
}

struct stream *tls_stream(struct tls *t)
{
	return &t->stream;
}
