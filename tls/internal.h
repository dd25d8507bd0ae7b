/* SPDX-License-Identifier: ISC
 *
 * tls/internal.h - between the files tls*.c, which are one module: only they include OpenSSL's headers.
 */
#ifndef PGSSL_TLS_INTERNAL_H
#define PGSSL_TLS_INTERNAL_H

#include <sys/stat.h>

#include <openssl/ssl.h>

#include "log.h"
#include "tls.h"

/* A file that may be being replaced is read again for a quarter of a second while it makes no sense. */
#define TEXT_TRIES    10
#define TEXT_PAUSE_NS (25 * 1000000L)

/* A PEM file's text. */
struct text {
	char *bytes;
	size_t len;
	struct stat st;
};

/*
 * Open a regular file and examine it. Returns the descriptor, or -1 and EX_NOINPUT or EX_NOPERM in `e`;
 * `cure` is added to the text if there is no such file.
 */
int text_open(const char *file, const char *cure, struct stat *st, struct error *e) MUST_USE;

/* Read a regular file whole, for text_wipe. Fails as text_open, and with EX_CONFIG if it is too large. */
bool text_read(struct text *t, const char *file, const char *cure, struct error *e) MUST_USE;

void text_wipe(struct text *t);

struct tls;

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
bool credential_load(struct credential *c, const char *cert_file, const char *key_file,
		     const char *passphrase_command, struct error *e) MUST_USE;

/*
 * Give `c` to the SSL object, never to an SSL_CTX: what a context holds survives every public call that frees it, what the SSL
 * object holds is gone after SSL_certs_clear.
 */
bool credential_use(SSL *ssl, const struct credential *c, const char *file,
		    struct error *e) MUST_USE;

void credential_free(struct credential *c);

/* Give OpenSSL a free() and a realloc() of ours, before its first allocation. */
void wiping_memory_install(void);

/* A key will be read: memory that OpenSSL frees is wiped from now on, since decoding leaves pieces of the key in it. */
void wiping_memory_begin(void);

/* The key is gone: memory freed from now on need not be wiped. */
void wiping_memory_end(void);

/* Client mode, step 3: ALPN, SNI, whom to trust and which name the server must have. Fails as tls_open does. */
bool client_open(SSL *ssl, const struct options *o, struct error *e) MUST_USE;

/* PostgreSQL's protocol name for ALPN, as it stands on the wire. */
extern const unsigned char alpn_postgresql[];
#define ALPN_POSTGRESQL_LEN 11
/*
 * Trust the authorities in `ca` and their revocation lists in `crl` (may be NULL; every certificate of a chain is then looked up in them). A
 * file that holds nothing or cannot be read is an error, never an open door. Read again as credential_load does. Fails as tls_open does.
 */
bool trust_load(SSL_CTX *ctx, const char *ca, const char *crl, struct error *e) MUST_USE;

/* Ask clients for a certificate, naming the authorities that trust_load read; one that is given must verify. */
void peer_ask(SSL_CTX *ctx);

/* Why the peer's certificate was refused in the handshake; status 0 if it was not. There is one peer per process. */
extern struct error peer_refusal;

/* Protocol versions, ciphers and groups: openssl.cnf's, narrowed to what pgssl promises, and the options'. Fails with EX_CONFIG or EX_USAGE. */
bool settings_apply(SSL_CTX *ctx, const struct options *o, struct error *e) MUST_USE;

/* For the other files of the module. */
SSL *tls_ssl(const struct tls *t);

/* Why OpenSSL's last call failed, in its words; `otherwise` if it does not say. */
const char *openssl_reason(const char *otherwise);

#endif
