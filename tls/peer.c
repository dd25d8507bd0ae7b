/* SPDX-License-Identifier: ISC
 *
 * tls/peer.c - whom to trust as a client (step 3), and who the client is by its certificate (steps 7 and 8).
 *
 * What is asked here are PostgreSQL's own questions (be-secure-openssl.c): the same purpose, the same revocation flags, the same names. A certificate's names are a
 * stranger's text even when its signature is good: what two programs could read differently is no name.
 */
#include "tls.h"
#include "tls/internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define NAME_SIZE 1025 /* identmap takes names of 1024 bytes; a longer one is no name */

/* ---- trust ---- */

/* X509_load_cert_file or X509_load_crl_file: add what the file holds to the store, return how many. */
typedef int load_file(X509_LOOKUP *lookup, const char *file, int type);

/* OpenSSL's loaders return 0 for a file with nothing of the kind and for one with any damage. */
static bool load_into(X509_STORE *store, load_file *load, const char *what, const char *file,
		      struct error *e)
{
	X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
	struct stat st;
	int fd = text_open(file, "", &st, e);

	if (fd < 0)
		return false;
	close(fd);
	ERR_clear_error();
	if (lookup != NULL && load(lookup, file, X509_FILETYPE_PEM) > 0)
		return true;
	if (ERR_GET_REASON(ERR_peek_error()) == PEM_R_NO_START_LINE)
		return fail(e, EX_CONFIG, "no %s in \"%s\"", what, file);
	return fail(e, EX_CONFIG, "could not load %s file \"%s\": %s", what, file,
		    openssl_reason("damaged file"));
}

static bool load_once(X509_STORE *store, const char *ca, const char *crl, struct error *e)
{
	if (!load_into(store, X509_load_cert_file, "certificate", ca, e))
		return false;
	if (crl == NULL)
		return true;
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return load_into(store, X509_load_crl_file, "revocation list", crl, e);
}

bool trust_load(SSL_CTX *ctx, const char *ca, const char *crl, struct error *e)
{
	for (int i = 1;; i++) {
		X509_STORE *store = X509_STORE_new();

		if (store == NULL)
			return fail(e, EX_OSERR, "out of memory");
		if (load_once(store, ca, crl, e)) {
			SSL_CTX_set_cert_store(ctx, store);
			return true;
		}
		X509_STORE_free(store);
		if (i == TEXT_TRIES)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = TEXT_PAUSE_NS}, NULL);
	}
}

static int compare_names(const X509_NAME *const *a, const X509_NAME *const *b)
{
	return X509_NAME_cmp(*a, *b);
}

/* The names of the trusted authorities, each once. NULL without memory. */
static STACK_OF(X509_NAME) * authority_names(X509_STORE *store)
{
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new(compare_names);
	STACK_OF(X509) *all = X509_STORE_get1_all_certs(store);

	for (int i = 0; i < sk_X509_num(all); i++) {
		X509_NAME *name = X509_NAME_dup(X509_get_subject_name(sk_X509_value(all, i)));
		if (name == NULL || sk_X509_NAME_find(names, name) >= 0 ||
		    sk_X509_NAME_push(names, name) <= 0)
			X509_NAME_free(name);
	}
	sk_X509_pop_free(all, X509_free);
	return names;
}

/* ---- names for people ---- */

/* A distinguished name as RFC 2253 writes it, as PostgreSQL does. False if it was cut or cannot be written. */
static bool write_name(const X509_NAME *name, char *buf, size_t size)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;

	*buf = '\0';
	if (bio == NULL)
		return false;
	bool ok = X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0;
	long len = BIO_get_mem_data(bio, &text);
	ok = ok && len >= 0 && (size_t)len < size;
	snprintf(buf, size, "%.*s", (int)len, len > 0 ? text : "");
	BIO_free(bio);
	return ok;
}

/* As openssl-x509(1) and a CA's index write it. */
static void write_serial(const X509 *x, char *buf, size_t size)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
	const unsigned char *bytes = ASN1_STRING_get0_data(serial);
	size_t at = 0;

	if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER)
		buf[at++] = '-';
	for (int i = 0; i < ASN1_STRING_length(serial) && at + 3 <= size; i++, at += 2)
		snprintf(buf + at, size - at, "%02X", bytes[i]);
	buf[at] = '\0';
}

static void describe(const X509 *x, struct tls_peer *peer)
{
	write_name(X509_get_subject_name(x), peer->subject, sizeof peer->subject);
	write_name(X509_get_issuer_name(x), peer->issuer, sizeof peer->issuer);
	write_serial(x, peer->serial, sizeof peer->serial);
}

/* ---- verification ---- */

struct error peer_refusal;

/* " subject=...": cut short, since `e` has to hold all of the line. */
static void add_field(struct error *e, const char *key, const char *value)
{
	char escaped[151];
	size_t len = strlen(e->text);

	log_escape(escaped, sizeof escaped, value, strlen(value));
	snprintf(e->text + len, sizeof e->text - len, " %s=%s", key, escaped);
}

/* Called by OpenSSL for every certificate and every doubt. Changes nothing: it only remembers. */
static int remember(int ok, X509_STORE_CTX *store)
{
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	int depth = X509_STORE_CTX_get_error_depth(store);
	struct tls_peer peer;

	if (ok || leaf == NULL)
		return ok;
	fail(&peer_refusal, EX_PROTOCOL, "client certificate refused at depth %d: %s", depth,
	     X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
	describe(leaf, &peer);
	add_field(&peer_refusal, "subject", peer.subject);
	add_field(&peer_refusal, "issuer", peer.issuer);
	add_field(&peer_refusal, "serial", peer.serial);
	return ok;
}

void peer_ask(SSL_CTX *ctx)
{
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, remember);
	SSL_CTX_set_purpose(
	    ctx, X509_PURPOSE_SSL_CLIENT); /* OpenSSL's default for a server, said aloud */
	SSL_CTX_set_client_CA_list(ctx, authority_names(SSL_CTX_get_cert_store(ctx)));
}

/* ---- who it is ---- */

/* A handshake that ended well has verified what there is. */
static X509 *certificate(const struct tls *t)
{
	const SSL *ssl = tls_ssl(t);

	return SSL_get_verify_result(ssl) == X509_V_OK ? SSL_get0_peer_certificate(ssl) : NULL;
}

bool tls_peer(const struct tls *t, struct tls_peer *peer)
{
	const X509 *x = certificate(t);

	if (x == NULL)
		return false;
	describe(x, peer);
	return true;
}

int64_t tls_peer_ms_left(const struct tls *t)
{
	int days, seconds;
	const X509 *x = certificate(t);

	if (x == NULL)
		return INT64_MAX;
	if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x)) != 1 || days < 0 ||
	    seconds < 0)
		return 0;
	return ((int64_t)days * 86400 + seconds) * 1000;
}

static bool is_ascii(const unsigned char *bytes, int len)
{
	for (int i = 0; i < len; i++)
		if (bytes[i] >= 0x80)
			return false;
	return true;
}

static bool is_utf8(const ASN1_STRING *s)
{
	unsigned char *copy = NULL;
	bool ok = ASN1_STRING_to_UTF8(&copy, s) >= 0;

	OPENSSL_free(copy);
	return ok;
}

/*
 * A name of the certificate as the bytes that a user name may be compared with. A NUL inside ends the name for one reader and not for another
 * (CVE-2009-4034 was this in PostgreSQL), and of the encodings only these mean the same everywhere.
 */
static bool plain_text(const ASN1_STRING *s, char *buf, size_t size)
{
	int type = ASN1_STRING_type(s), len = ASN1_STRING_length(s);
	const unsigned char *bytes = ASN1_STRING_get0_data(s);

	if (len <= 0 || (size_t)len >= size || memchr(bytes, '\0', (size_t)len) != NULL)
		return false;
	if (type == V_ASN1_UTF8STRING
		? !is_utf8(s)
		: (type != V_ASN1_PRINTABLESTRING && type != V_ASN1_IA5STRING) ||
		      !is_ascii(bytes, len))
		return false;
	memcpy(buf, bytes, (size_t)len);
	buf[len] = '\0';
	return true;
}

/* The first one, as PostgreSQL takes it. */
static bool common_name(const X509 *x, char *buf, size_t size)
{
	const X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

	return at >= 0 &&
	       plain_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), buf, size);
}

/* Writing it out converts encodings and would hide a bad one, so every part is looked at. */
static bool distinguished_name(const X509 *x, char *buf, size_t size)
{
	const X509_NAME *subject = X509_get_subject_name(x);
	int count = X509_NAME_entry_count(subject);

	for (int i = 0; i < count; i++)
		if (!plain_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)), buf,
				size))
			return false;
	return count > 0 && write_name(subject, buf, size);
}

static bool alternative_name(const X509 *x, char *buf, size_t size, tls_name_fits *fits, void *arg)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
		int type;
		const ASN1_STRING *value =
		    GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);

		if (type == GEN_DNS || type == GEN_URI || type == GEN_EMAIL)
			found = plain_text(value, buf, size) && fits(buf, arg);
	}
	GENERAL_NAMES_free(names);
	return found;
}

bool tls_peer_has_name(const struct tls *t, enum clientname which, tls_name_fits *fits, void *arg)
{
	const X509 *x = certificate(t);
	char name[NAME_SIZE];

	if (x == NULL)
		return false;
	switch (which) {
	case CLIENTNAME_CN:
		return common_name(x, name, sizeof name) && fits(name, arg);
	case CLIENTNAME_DN:
		return distinguished_name(x, name, sizeof name) && fits(name, arg);
	case CLIENTNAME_SAN:
		return alternative_name(x, name, sizeof name, fits, arg);
	case CLIENTNAME_UNSET:
		break;
	}
	return false;
}

/* ---- what was agreed, for the log ---- */

const char *tls_version(const struct tls *t)
{
	return SSL_get_version(tls_ssl(t));
}

const char *tls_cipher(const struct tls *t)
{
	return SSL_get_cipher_name(tls_ssl(t));
}

const char *tls_group(const struct tls *t)
{
	int group = (int)SSL_get_negotiated_group(tls_ssl(t));
	const char *name = group == 0 ? NULL : SSL_group_to_name(tls_ssl(t), group);

	return name != NULL ? name : "none";
}

const char *tls_library(char *buf, size_t size)
{
	snprintf(buf, size, "%s, running with %s", OPENSSL_VERSION_TEXT,
		 OpenSSL_version(OPENSSL_VERSION));
	return buf;
}
