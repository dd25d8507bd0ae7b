/* SPDX-License-Identifier: ISC
 *
 * tls_internal.h - between the files tls*.c, which are one module: only they include OpenSSL's headers.
 */
#ifndef PGSSL_TLS_INTERNAL_H
#define PGSSL_TLS_INTERNAL_H

#include <openssl/ssl.h>

#include "log.h"
#include "tls.h"

/* A certificate with what belongs to it. */
struct credential {
	X509 *leaf;
	STACK_OF(X509) * chain; /* the rest of the file, in its order */
	EVP_PKEY *key;
	bool final; /* it could not be loaded, and reading it again would not help */
};

/*
 * Read a certificate chain and its private key from PEM files (key_file NULL: the same file). Reads again for a quarter of a second while they do not fit together.
 * On success `c` is the caller's, for credential_free. The files' text has been wiped. Fails as tls_open does.
 */
bool credential_load(struct credential *c, const char *cert_file, const char *key_file, const char *passphrase_command,
		     struct error *e) MUST_USE;

/*
 * Give `c` to the SSL object, never to an SSL_CTX: what a context holds survives every public call that frees it, what the SSL
 * object holds is gone after SSL_certs_clear.
 */
bool credential_use(SSL *ssl, const struct credential *c, const char *file, struct error *e) MUST_USE;

void credential_free(struct credential *c);

/* Give OpenSSL a free() and a realloc() that wipe, before its first allocation: decoded keys leave pieces in freed memory. */
void wiping_memory_begin(void);

/* The key is gone: memory freed from now on need not be wiped. */
void wiping_memory_end(void);

/* Client mode, step 3: ALPN, SNI, whom to trust and what to verify. Fails as tls_open does. */
bool client_open(SSL *ssl, const struct tls_options *o, struct error *e) MUST_USE;

/* Client mode, step 7: does the server's certificate, which was verified, name the server? `e` says what it names. */
bool client_check_name(SSL *ssl, const char *servername, struct error *e) MUST_USE;

/* PostgreSQL's protocol name for ALPN, as it stands on the wire. */
extern const unsigned char alpn_postgresql[];
#define ALPN_POSTGRESQL_LEN 11

/* Why OpenSSL's last call failed, in its words; `otherwise` if it does not say. */
const char *openssl_reason(const char *otherwise);

#endif
