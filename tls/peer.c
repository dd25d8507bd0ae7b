/* SPDX-License-Identifier: ISC
 *
 * tls/peer.c - the names in a client's certificate (steps 7 and 8).
 *
 * The names are PostgreSQL's (be-secure-openssl.c). They are untrusted text even if the
 * signature is good, so a name that two programs could read differently is ignored.
 */
#include "tls/internal.h"

#include <stdio.h>
#include <string.h>

#include <openssl/x509v3.h>

#define NAME_SIZE 1025 /* identmap takes names of up to 1024 bytes; a longer one is ignored */

/* ---- verification ---- */

struct error tls_refusal;

static void describe_certificate(const X509 *x, struct tls_peer *peer)
{
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
	char *hex = serial == NULL ? NULL : BN_bn2hex(serial);

	tls_write_name(X509_get_subject_name(x), peer->subject, sizeof peer->subject);
	tls_write_name(X509_get_issuer_name(x), peer->issuer, sizeof peer->issuer);
	/* As openssl-x509(1) and a CA's index write it. */
	snprintf(peer->serial, sizeof peer->serial, "%s",
		 hex == NULL          ? ""
		 : BN_is_zero(serial) ? "00"
				      : hex);
	OPENSSL_free(hex);
	BN_free(serial);
}

/* OpenSSL calls this for each certificate and each error. Records the error and changes nothing. */
int tls_verify_client(int ok, X509_STORE_CTX *store)
{
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	struct tls_peer peer;
	char subject[151], issuer[151]; /* cut, since the error has to hold both */

	if (ok || leaf == NULL)
		return ok;
	describe_certificate(leaf, &peer);
	fail(&tls_refusal, EX_PROTOCOL,
	     "client certificate refused at depth %d: %s subject=%s issuer=%s serial=%s",
	     X509_STORE_CTX_get_error_depth(store),
	     X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)),
	     log_escape(subject, sizeof subject, peer.subject, strlen(peer.subject)),
	     log_escape(issuer, sizeof issuer, peer.issuer, strlen(peer.issuer)), peer.serial);
	return ok;
}

/* ---- the client's names ---- */

/* After a successful handshake any certificate is verified. */
static X509 *client_certificate(const struct tls *t)
{
	return SSL_get_verify_result(t->ssl) == X509_V_OK ? SSL_get0_peer_certificate(t->ssl)
							  : NULL;
}

bool tls_peer(const struct tls *t, struct tls_peer *peer)
{
	const X509 *x = client_certificate(t);

	if (x != NULL)
		describe_certificate(x, peer);
	return x != NULL;
}

int64_t tls_peer_ms_left(const struct tls *t)
{
	int days, seconds;
	const X509 *x = client_certificate(t);

	if (x == NULL)
		return INT64_MAX;
	if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x)) != 1 || days < 0 ||
	    seconds < 0)
		return 0;
	return ((int64_t)days * 86400 + seconds) * 1000;
}

/*
 * A name as bytes that a user name may be compared with. A NUL ends the name for one reader and not
 * for another (CVE-2009-4034 in PostgreSQL). Only ASCII and UTF-8 mean the same everywhere: what
 * has the same length in UTF-8.
 */
static bool plain_text(const ASN1_STRING *s, char *buf, size_t size)
{
	int type = ASN1_STRING_type(s), len = ASN1_STRING_length(s);
	unsigned char *text = NULL;

	if (type != V_ASN1_UTF8STRING && type != V_ASN1_PRINTABLESTRING && type != V_ASN1_IA5STRING)
		return false;
	bool ok = len > 0 && (size_t)len < size && ASN1_STRING_to_UTF8(&text, s) == len &&
		  memchr(text, '\0', (size_t)len) == NULL;
	if (ok)
		snprintf(buf, size, "%.*s", len, (const char *)text);
	OPENSSL_free(text);
	return ok;
}

/* Writing a name converts encodings, which would hide a bad one: look at each part. */
static bool distinguished_name(const X509 *x, char *buf, size_t size)
{
	const X509_NAME *subject = X509_get_subject_name(x);
	int count = X509_NAME_entry_count(subject);

	for (int i = 0; i < count; i++)
		if (!plain_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)), buf,
				size))
			return false;
	return count > 0 && tls_write_name(subject, buf, size);
}

struct candidate {
	tls_name_fits *fits;
	void *arg;
};

static bool alt_name_fits(int type, const ASN1_STRING *value, void *arg)
{
	const struct candidate *c = arg;
	char name[NAME_SIZE];

	return (type == GEN_DNS || type == GEN_URI || type == GEN_EMAIL) &&
	       plain_text(value, name, sizeof name) && c->fits(name, c->arg);
}

bool tls_peer_has_name(const struct tls *t, enum clientname which, tls_name_fits *fits, void *arg)
{
	const X509 *x = client_certificate(t);
	const ASN1_STRING *cn = x == NULL ? NULL : tls_common_name(x);
	char name[NAME_SIZE];

	if (x == NULL)
		return false;
	switch (which) {
	case CLIENTNAME_CN:
		return cn != NULL && plain_text(cn, name, sizeof name) && fits(name, arg);
	case CLIENTNAME_DN:
		return distinguished_name(x, name, sizeof name) && fits(name, arg);
	case CLIENTNAME_SAN:
		return tls_each_alt_name(x, alt_name_fits, &(struct candidate){fits, arg});
	case CLIENTNAME_UNSET:
		break;
	}
	return false;
}

/* ---- what was agreed, for the log ---- */

const char *tls_version(const struct tls *t)
{
	return SSL_get_version(t->ssl);
}

const char *tls_cipher(const struct tls *t)
{
	return SSL_get_cipher_name(t->ssl);
}

const char *tls_group(const struct tls *t)
{
	int group = (int)SSL_get_negotiated_group(t->ssl);
	const char *name = group == 0 ? NULL : SSL_group_to_name(t->ssl, group);

	return name != NULL ? name : "none";
}

const char *tls_library(char *buf, size_t size)
{
	snprintf(buf, size, "%s, running with %s", OPENSSL_VERSION_TEXT,
		 OpenSSL_version(OPENSSL_VERSION));
	return buf;
}
