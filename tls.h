/* SPDX-License-Identifier: ISC
 *
 * tls.h - everything of OpenSSL: contexts, certificates, handshake, reading, writing, the end, wiping of the key.
 *
 * No other file includes an OpenSSL header. There is one TLS connection a process (in the parent of -d none). Its transport is a stream; the TLS connection is a stream itself.
 */
#ifndef PGSSL_TLS_H
#define PGSSL_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "options.h"
#include "net/stream.h"

struct tls;

/*
 * Step 3: initialise OpenSSL, read certificates and keys, check them, and make the one SSL object that will carry the connection. A key that
 * does not match its certificate, or a file that cannot be parsed, is read again for a quarter of a second, since it may be being replaced;
 * a passphrase command adds its own time. Fails with EX_NOINPUT, EX_NOPERM or EX_CONFIG and names file, cause and cure.
 * The parent of -d does this, and each of its children has a copy, keys included, which tls_accept then wipes as ever. `o` must live as long as `t`.
 */
bool tls_open(struct tls **t, const struct options *o, struct error *e) MUST_USE;

/* The file that `ca` "system" means in client mode. */
const char *tls_system_authorities(void);

/* Free what tls_open made and nobody used; the keys are wiped. */
void tls_discard(struct tls *t);

/* Step 3 failed although the client was promised TLS: send the alert internal_error (RFC 8446, 6.2), so that it learns more than an end of file. */
void tls_send_internal_error(struct stream *raw, deadline when);

/*
 * Step 7: the server's handshake over `raw`, which must live as long as `t`. `direct` says that the client began without SSLRequest. Waits until `when`. Whatever the
 * result, the private key is wiped from memory afterwards. Fails with EX_PROTOCOL (e->text says why, of a refused certificate also whose it was; the client was sent an alert where TLS has one),
 * and for IO_TIMEOUT and IO_TERMINATED too.
 */
bool tls_accept(struct tls *t, struct stream *raw, bool direct, deadline when,
		struct error *e) MUST_USE;

/*
 * Step 7 in client mode: the client's handshake over `raw`, with SNI, ALPN "postgresql" and the verification that was asked for. As tls_accept; fails
 * with EX_UNAVAILABLE.
 */
bool tls_connect(struct tls *t, struct stream *raw, deadline when, struct error *e) MUST_USE;

/* Why the connection broke, after IO_FAILED: OpenSSL's words, such as the alert that the other side sent. "" if it has none. */
const char *tls_failure(const struct tls *t);
/* There will be no handshake: wipe the private key from memory. */
void tls_wipe_key(struct tls *t);

/* The TLS connection as a stream; lives as long as `t`. shut() sends close_notify: it ends our direction only. */
struct stream *tls_stream(struct tls *t);

/* For the log: "TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519". */
const char *tls_version(const struct tls *t);
const char *tls_cipher(const struct tls *t);
const char *tls_group(const struct tls *t);

/* A client's certificate in words: distinguished names as RFC 2253 writes them, cut where they are too long, and the serial number in hexadecimal. For the log: not escaped. */
struct tls_peer {
	char subject[256], issuer[256], serial[44];
};

/* True if the client has given a certificate, which then has been verified. After tls_accept. */
bool tls_peer(const struct tls *t, struct tls_peer *peer);

/* Milliseconds until the client's certificate expires, 0 if it has; INT64_MAX without one. */
int64_t tls_peer_ms_left(const struct tls *t);

/*
 * Give the names of that kind in the client's certificate to `fits`, until it says yes: the first CN, or the whole subject as RFC 2253 writes it, or every DNS, URI and mail
 * name. A name that is empty, has more than 1024 bytes, holds a NUL or is in an odd encoding is none, and a subject with such a part is none. False if none fits.
 */
typedef bool tls_name_fits(const char *name, void *arg);
bool tls_peer_has_name(const struct tls *t, enum clientname which, tls_name_fits *fits,
		       void *arg) MUST_USE;

/* OpenSSL's version, the one compiled with and the one running, for --version. Returns `buf`. */
const char *tls_library(char *buf, size_t size);

#endif
