/* SPDX-License-Identifier: ISC
 *
 * tls.h - all use of OpenSSL: certificates and keys, handshake, the connection as a stream.
 *
 * There is one TLS connection per process (none in the parent of -d). Its transport is a stream,
 * and so is the connection itself. The private key is wiped from memory after the handshake.
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
 * Step 3: initialise OpenSSL, read and check certificates, keys, authorities and revocation lists,
 * and make the SSL object of the connection. `o` must outlive `t`. Files that cannot be used are
 * read again for a quarter of a second, since they may be being replaced; a passphrase command adds
 * its own time. Fails with EX_NOINPUT, EX_NOPERM, EX_CONFIG or EX_USAGE and names file, cause and
 * cure. With -d the parent calls this; each child has a copy that its handshake wipes.
 */
bool tls_open(struct tls **t, const struct options *o, struct error *e) MUST_USE;

/* Free what tls_open made, if there was no handshake; the keys are wiped. */
void tls_discard(struct tls *t);

/* The parent of -d can run no program later: keep the next passphrase. Its children forget it. */
void tls_keep_passphrase(void);
void tls_forget_passphrase(void);

/* The parent of -d, after tls_open: look up the algorithms that most handshakes use. Fails without
 * memory: OpenSSL would never find some of them again. */
bool tls_fetch_algorithms(void) MUST_USE;

/* The file of -A, or NULL. "system" in client mode means a file, not a directory as in OpenSSL. */
const char *tls_authorities(const struct options *o);

/* Step 3 failed after TLS was promised to the client: send the alert internal_error. */
void tls_send_internal_error(struct stream *raw, deadline when);

/*
 * Step 7: the server's handshake over `raw`, which must outlive `t`. `direct`: the client began
 * without an SSLRequest. Blocks until `when` at most. The private key is wiped in any case. Fails
 * with EX_PROTOCOL, also for a timeout and SIGTERM; e->text says why, and whose certificate was
 * refused. Fails with EX_OK if the client left without a byte, as health checks do after the 'S'.
 */
bool tls_accept(struct tls *t, struct stream *raw, bool direct, deadline when,
		struct error *e) MUST_USE;

/* The same in client mode, with the verification that the options ask for, or EX_UNAVAILABLE. */
bool tls_connect(struct tls *t, struct stream *raw, deadline when, struct error *e) MUST_USE;

/* Why the connection broke (IO_FAILED), in OpenSSL's words; "" if unknown. */
const char *tls_failure(const struct tls *t);

/* Without a handshake: wipe the private key from memory. */
void tls_wipe_key(struct tls *t);

/* The connection as a stream, which lives as long as `t`. shut() sends close_notify. */
struct stream *tls_stream(struct tls *t);

/* For the log: "TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519". */
const char *tls_version(const struct tls *t);
const char *tls_cipher(const struct tls *t);
const char *tls_group(const struct tls *t);

/* A certificate for the log, not escaped: names as RFC 2253 writes them, perhaps cut. */
struct tls_peer {
	char subject[256], issuer[256], serial[44];
};

/* After tls_accept: describe the client's certificate, which is verified; false if it sent none. */
bool tls_peer(const struct tls *t, struct tls_peer *peer);

/* Milliseconds until the client's certificate expires, 0 if it has; INT64_MAX without one. */
int64_t tls_peer_ms_left(const struct tls *t);

/*
 * Call `fits` for the names of that kind in the client's certificate until it returns true; return
 * whether it did. The names are the first CN, or the subject as RFC 2253 writes it, or all DNS, URI
 * and mail names. A name that is empty, longer than 1024 bytes, contains a NUL or has an ambiguous
 * encoding is skipped.
 */
typedef bool tls_name_fits(const char *name, void *arg);
bool tls_peer_has_name(const struct tls *t, enum clientname which, tls_name_fits *fits,
		       void *arg) MUST_USE;

/* OpenSSL's version, compiled-in and running, for --version. Returns `buf`. */
const char *tls_library(char *buf, size_t size);

#endif
