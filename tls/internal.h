/* SPDX-License-Identifier: ISC
 *
 * tls/internal.h - between tls.c, tls/ and check/: only they include OpenSSL's headers.
 */
#ifndef PGSSL_TLS_INTERNAL_H
#define PGSSL_TLS_INTERNAL_H

#include <sys/stat.h>

#include <openssl/ssl.h>

#include "tls.h"

/* The connection. Its fields belong to tls.c; the others only read `ssl`. */
struct tls {
	struct stream stream; /* first: a pointer to it is a pointer to this */
	SSL_CTX *ctx;
	SSL *ssl;
	struct stream *raw;
	const struct options *options;
	bool direct;          /* the client began without an SSLRequest */
	bool retry;           /* it could not be opened, perhaps because a file is being replaced */
	char failure[128];    /* why the connection broke */
	bool heard;           /* the peer has sent a byte */
	unsigned reads;       /* of the transport, in the current call of OpenSSL */
	size_t hello_len;     /* of the last ClientHello */
	unsigned key_updates; /* within a second, which ends at the next */
	deadline key_updates_until;
	bool more;              /* another read may succeed without new input */
	bool out_failed;        /* the transport is broken */
	bool no_memory;         /* ... or would be fine, but there is no memory */
	size_t out_at, out_len; /* unsent records: out[out_at..out_len) */
	unsigned char *out;     /* OUT_SIZE bytes; NULL while nothing is unsent, to save memory */
};

/* Why OpenSSL's last call failed, in its words; `otherwise` if it does not say. */
const char *tls_reason(const char *otherwise);

/* A handshake in memory with a client of the same settings; wipes the key as tls_accept does. Fails
 * with EX_CONFIG: e->text is OpenSSL's reason. */
bool tls_try_handshake(struct tls *t, struct error *e) MUST_USE;

/* ---- files (credential.c, trust.c) ---- */

/* The text of a PEM file, which may hold a private key. */
struct tls_pem_file {
	char *bytes;
	size_t len;
	struct stat st;
};

/* Read a regular file whole, for tls_pem_file_wipe. Fails with EX_NOINPUT or EX_NOPERM; `cure` is
 * for a file that is missing. */
bool tls_pem_file_read(struct tls_pem_file *f, const char *file, const char *cure,
		       struct error *e) MUST_USE;
void tls_pem_file_wipe(struct tls_pem_file *f);

/* Does `f` have a PEM block that OpenSSL skips without an error? See TLS_SKIPPED. */
bool tls_pem_skips(const struct tls_pem_file *f) MUST_USE;
#define TLS_SKIPPED                                                                                \
	"\"%s\" has a PEM block that OpenSSL does not read: put its -----BEGIN and -----END on "   \
	"lines of their own, with nothing before or after them, in ASCII or UTF-8"

/* Does OpenSSL read every PEM block of `file`? Fails as tls_pem_file_read, or with EX_CONFIG. */
bool tls_file_is_whole(const char *file, struct error *e) MUST_USE;

/* All certificates in `f`, at least one, in their order, for the caller to free; else NULL. */
STACK_OF(X509) * tls_parse_certificates(const struct tls_pem_file *f, const char *file,
					struct error *e) MUST_USE;

/*
 * Give certificate number `which` of the options, with its chain and key, to the SSL object. Never
 * to an SSL_CTX: no public call wipes what that holds, as SSL_certs_clear does for an SSL object.
 * *retry says whether the files may have been read while they were being replaced.
 */
bool tls_load_certificate(SSL *ssl, const struct options *o, int which, bool *retry,
			  struct error *e) MUST_USE;

/* Fill a store with the authorities of -A and the lists of --crl, which each issuer must have then;
 * either is a file or a directory. Refuses lists that OpenSSL sometimes ignores. Fails as
 * tls_pem_file_read, or with EX_CONFIG: damaged, or nothing in it. */
bool tls_load_store(X509_STORE *store, const struct options *o, struct error *e) MUST_USE;

/* The lists in a store, which has the only reference to them. The caller frees the stack.
 * NULL without memory. */
STACK_OF(X509_CRL) * tls_lists(X509_STORE *store);

/* The same for a context, and request certificates from clients if there is -A. Fails with
 * EX_CONFIG also if the authorities' names have more than TLS_NAMES_MAX bytes. */
bool tls_load_trust(SSL_CTX *ctx, const struct options *o, struct error *e) MUST_USE;

/* What names take in a CertificateRequest (RFC 5246, 7.4.4). */
#define TLS_NAMES_MAX 65535
size_t tls_names_size(const STACK_OF(X509_NAME) * names);

/*
 * Give OpenSSL allocation functions of ours, before its first allocation. Up to tls_started the
 * process ends if there is no memory: OpenSSL 3.5 reports a failure with the lock held that the
 * report needs, or aborts.
 */
void tls_install_wiping(void);
void tls_started(void);

/* Has an allocation of OpenSSL failed since the last call? OpenSSL often names another reason. */
bool tls_no_memory(void);

/* Wipe memory that OpenSSL frees: decoding leaves pieces of the private key in it. */
void tls_wiping(bool on);

/* Copy the first line that `command` prints into `buf`, which the caller wipes. Blocks for 10 s at
 * most, then kills the command. Fails with EX_CONFIG, EX_OSERR or EX_TEMPFAIL. */
bool tls_read_passphrase(const char *command, char *buf, size_t size, struct error *e) MUST_USE;

/* ---- settings (settings.c, client.c) ---- */

#define TLS_RECORD_MAX 8192           /* plaintext per record: see DESIGN, "Records" */
#define TLS_IN_SIZE    (16384 + 2048) /* a record of any size: RFC 8446, 5.2 */

/* PostgreSQL's name for ALPN, in wire format. */
extern const unsigned char tls_alpn[];
#define TLS_ALPN_LEN 11

/* Read openssl.cnf once, for what tls_apply_settings must know of it. */
void tls_read_site_policy(void);

/* The settings of both modes. Fails with EX_CONFIG or EX_USAGE. */
bool tls_apply_settings(SSL_CTX *ctx, const struct options *o, struct error *e) MUST_USE;

/* Client mode: ALPN, SNI, what to verify of the server. Fails with EX_USAGE. */
bool tls_set_up_client(SSL *ssl, const struct options *o, struct error *e) MUST_USE;

/* ---- peers and their names, which are untrusted text (peer.c, names.c) ---- */

/* OpenSSL calls this for each certificate of a client. It changes nothing. */
int tls_verify_client(int ok, X509_STORE_CTX *store);

/* Why the peer was refused in the handshake; status 0 if it was not. One process has one peer. */
extern struct error tls_refusal;

/*
 * Write a distinguished name as RFC 2253 and PostgreSQL do, which escapes control characters. False
 * if it was cut or cannot be written; `buf` is always terminated.
 */
bool tls_write_name(const X509_NAME *name, char *buf, size_t size);

/* The first common name, or NULL. */
const ASN1_STRING *tls_common_name(const X509 *x);

/*
 * Call `each` for the subject alternative names of type GEN_DNS, GEN_URI, GEN_EMAIL and GEN_IPADD
 * until it returns true; return whether it did. An address that has neither 4 nor 16 bytes has the
 * type TLS_BAD_ADDRESS.
 */
#define TLS_BAD_ADDRESS (-1)
typedef bool tls_alt_name(int type, const ASN1_STRING *value, void *arg);
bool tls_each_alt_name(const X509 *x, tls_alt_name *each, void *arg);

/* Write these names as openssl-x509(1) does, escaped (log_escape), perhaps cut. Returns the length
 * of an iPAddress that has a wrong one, else 0. */
int tls_write_alt_names(const X509 *x, char *buf, size_t size);

#endif
