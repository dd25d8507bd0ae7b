/* SPDX-License-Identifier: ISC
 *
 * check/tls_report.c - --check: certificates, keys and settings, as people want to know them.
 *
 * First tls_open() does what a connection does; then the files are read again by themselves, so that the report says more than the first error. Names in
 * certificates are escaped by log_escape, or by RFC 2253: a report must not drive a terminal.
 */
#include "check/tls_report.h"
#include "tls.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define STRENGTH 112 /* bits of security: RSA 2048, NIST SP 800-57's least today */

const char *report_dn(const X509_NAME *name, char buf[REPORT_NAME_SIZE])
{
	BIO *bio = BIO_new(BIO_s_mem());

	*buf = '\0';
	if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
		char *text;
		long len = BIO_get_mem_data(bio, &text);
		snprintf(buf, REPORT_NAME_SIZE, "%.*s", (int)len, len > 0 ? text : "");
	}
	BIO_free(bio);
	return *buf != '\0' ? buf : "(empty)";
}

static const char *subject(const X509 *x, char buf[REPORT_NAME_SIZE])
{
	return report_dn(X509_get_subject_name(x), buf);
}

static const char *issuer(const X509 *x, char buf[REPORT_NAME_SIZE])
{
	return report_dn(X509_get_issuer_name(x), buf);
}

/* Days from now; a part of a day is none. */
static int days_until(const ASN1_TIME *when)
{
	int days = 0, seconds;

	ASN1_TIME_diff(&days, &seconds, NULL, when);
	return days;
}

static const char *date(const ASN1_TIME *when, char buf[32])
{
	struct tm tm;

	if (ASN1_TIME_to_tm(when, &tm) != 1 || strftime(buf, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(buf, 32, "(no date)");
	return buf;
}

void report_dates(const char *what, const ASN1_TIME *from, const ASN1_TIME *until, int soon,
		  enum finding bad)
{
	char text[32];
	int left = days_until(until);
	time_t now = time(NULL);

	if (ASN1_TIME_cmp_time_t(from, now) > 0)
		report(bad, "%s: not valid before %s: wait, or set this machine's clock", what,
		       date(from, text));
	if (ASN1_TIME_cmp_time_t(until, now) <= 0)
		report(bad, "%s: EXPIRED at %s: replace it", what, date(until, text));
	else
		report(left < soon ? FOUND_WARNING : FOUND_OK,
		       "%s: valid until %s: %d day%s left%s", what, date(until, text), left,
		       left == 1 ? "" : "s", left < soon ? ": replace it soon" : "");
}

/* ---- one certificate ---- */

/* One name of the SAN as openssl-x509(1) writes it; "" for kinds that no client looks at. */
static const char *san_text(const GENERAL_NAME *name, char *buf, size_t size)
{
	static const struct {
		int type;
		const char *label;
	} kinds[] = {{GEN_DNS, "DNS"}, {GEN_URI, "URI"}, {GEN_EMAIL, "email"}};
	int type;
	const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
	char text[256] = "";

	*buf = '\0';
	if (type == GEN_IPADD && inet_ntop(ASN1_STRING_length(value) == 4 ? AF_INET : AF_INET6,
					   ASN1_STRING_get0_data(value), text, sizeof text) != NULL)
		snprintf(buf, size, "IP:%s", text);
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (kinds[i].type == type)
			snprintf(buf, size, "%s:%s", kinds[i].label,
				 log_escape(text, sizeof text,
					    (const char *)ASN1_STRING_get0_data(value),
					    (size_t)ASN1_STRING_length(value)));
	return buf;
}

static void report_names(const X509 *leaf)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	char list[2048] = "", one[300];

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		if (san_text(sk_GENERAL_NAME_value(names, i), one, sizeof one)[0] == '\0')
			continue;
		strlcat(list, list[0] != '\0' ? ", " : "", sizeof list);
		strlcat(list, one, sizeof list);
	}
	GENERAL_NAMES_free(names);
	if (list[0] != '\0')
		report(FOUND_OK, "names: %s", list);
	else
		report(FOUND_WARNING, "names: none (no subjectAltName): libpq then looks at the "
				      "CN, other clients refuse; "
				      "make a certificate with the host's names");
}

static void report_key(X509 *leaf)
{
	EVP_PKEY *key = X509_get0_pubkey(leaf);
	char curve[64];
	size_t len;
	int digest, bits = 0;

	if (key == NULL) {
		report(FOUND_ERROR, "key: OpenSSL does not know its kind");
		return;
	}
	if (EVP_PKEY_get_group_name(key, curve, sizeof curve, &len) != 1)
		snprintf(curve, sizeof curve, "%d bits", EVP_PKEY_get_bits(key));
	bool strong = EVP_PKEY_get_security_bits(key) >= STRENGTH;
	report(strong ? FOUND_OK : FOUND_WARNING, "key: %s, %s%s", EVP_PKEY_get0_type_name(key),
	       curve, strong ? "" : ": weak; make one of RSA 2048 bits or more, or EC P-256");
	if (X509_get_signature_info(leaf, &digest, NULL, &bits, NULL) == 1 && digest != NID_undef &&
	    bits < STRENGTH / 2 + 8)
		report(FOUND_WARNING,
		       "signature: %s is broken; have the certificate signed with SHA-256",
		       OBJ_nid2sn(digest));
}

static void report_leaf(X509 *leaf)
{
	char text[REPORT_NAME_SIZE];

	report(FOUND_OK, "subject: %s", subject(leaf, text));
	report_names(leaf);
	report(FOUND_OK, "issuer: %s", issuer(leaf, text));
	report_dates("certificate", X509_get0_notBefore(leaf), X509_get0_notAfter(leaf),
		     REPORT_DAYS, FOUND_ERROR);
	report_key(leaf);
	if (X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0) != 1)
		report(FOUND_ERROR, "purpose: its extendedKeyUsage or keyUsage says that it is not "
				    "for servers; clients that verify "
				    "refuse it");
}

/* ---- the chain ---- */

STACK_OF(X509) * report_read_certificates(const char *file)
{
	STACK_OF(X509) *all = sk_X509_new_null();
	BIO *bio = BIO_new_file(file, "r");
	X509 *x;

	while (bio != NULL && (x = PEM_read_bio_X509(bio, NULL, NULL, (void *)"")) != NULL)
		sk_X509_push(all, x);
	BIO_free(bio);
	ERR_clear_error();
	return all;
}

/* Does this machine's own collection of authorities have who signed `x`? */
static bool issuer_is_known_here(X509 *x)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509 *found = NULL;

	bool known = X509_STORE_set_default_paths(store) == 1 &&
		     X509_STORE_CTX_init(ctx, store, x, NULL) == 1 &&
		     X509_STORE_CTX_get1_issuer(&found, ctx, x) == 1;
	X509_free(found);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	ERR_clear_error();
	return known;
}

static void report_end_of_chain(X509 *last, int length)
{
	char text[REPORT_NAME_SIZE];
	bool public_ca = X509_get_ext_by_NID(last, NID_info_access, -1) >=
			 0; /* private ones seldom say where theirs is */

	if (X509_self_signed(last, 1) == 1 && length == 1)
		report(FOUND_NOTE,
		       "chain: self-signed: clients need this very certificate as sslrootcert");
	else if (X509_self_signed(last, 1) == 1)
		report(FOUND_OK,
		       "chain: complete, %d certificates with the root (which clients do not need)",
		       length);
	else if (issuer_is_known_here(last))
		report(FOUND_OK,
		       "chain: complete, %d certificate%s; this machine knows their root, %s",
		       length, length == 1 ? "" : "s", issuer(last, text));
	else
		report(public_ca ? FOUND_WARNING : FOUND_NOTE,
		       "chain: ends below \"%s\": right if that is the root that clients have as "
		       "sslrootcert; if it is "
		       "an intermediate "
		       "authority, append its certificate to the file",
		       issuer(last, text));
}

static bool signed_by(X509 *x, X509 *by)
{
	return X509_check_issued(by, x) == X509_V_OK && X509_verify(x, X509_get0_pubkey(by)) == 1;
}

static void report_chain(STACK_OF(X509) * all)
{
	char text[REPORT_NAME_SIZE], below[REPORT_NAME_SIZE], what[REPORT_NAME_SIZE + 32];
	int n = sk_X509_num(all);

	for (int i = 1; i < n; i++) {
		X509 *x = sk_X509_value(all, i);

		snprintf(what, sizeof what, "chain: %s", subject(x, text));
		report_dates(what, X509_get0_notBefore(x), X509_get0_notAfter(x), REPORT_DAYS,
			     FOUND_ERROR);
		if (!signed_by(sk_X509_value(all, i - 1), x)) {
			report(FOUND_WARNING,
			       "chain: out of order: \"%s\" has not signed \"%s\" before it; the "
			       "server's certificate "
			       "comes first, then each "
			       "one's issuer",
			       text, subject(sk_X509_value(all, i - 1), below));
			return;
		}
		if (X509_check_ca(x) == 0)
			report(
			    FOUND_ERROR,
			    "chain: \"%s\" is not allowed to sign certificates (basicConstraints)",
			    text);
	}
	report_end_of_chain(sk_X509_value(all, n - 1), n);
}

static void report_certificate(const char *file)
{
	STACK_OF(X509) *all = report_read_certificates(file);

	if (sk_X509_num(all) > 0) { /* else tls_open has said it */
		report_leaf(sk_X509_value(all, 0));
		report_chain(all);
	}
	sk_X509_pop_free(all, X509_free);
	ERR_clear_error();
}

/* ---- what is in force ---- */

static const char *protocol(long version, const char *none)
{
	return version == TLS1_3_VERSION ? "TLSv1.3" : version == TLS1_2_VERSION ? "TLSv1.2" : none;
}

static void report_ciphers(SSL *ssl)
{
	char new[1024] = "", old[4096] = "";
	STACK_OF(SSL_CIPHER) *all = SSL_get_ciphers(ssl);

	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(all, i);
		bool is_new = strcmp(SSL_CIPHER_get_version(cipher), "TLSv1.3") == 0;
		char *list = is_new ? new : old;
		size_t size = is_new ? sizeof new : sizeof old;

		strlcat(list, list[0] != '\0' ? ":" : "", size);
		strlcat(list, SSL_CIPHER_get_name(cipher), size);
	}
	if (SSL_get_max_proto_version(ssl) != TLS1_2_VERSION)
		report(FOUND_OK, "TLS 1.3 suites: %s", new);
	if (SSL_get_min_proto_version(ssl) <= TLS1_2_VERSION)
		report(FOUND_OK, "TLS 1.2 ciphers: %s", old);
}

static void report_settings(SSL *ssl)
{
	char *file = CONF_get1_default_config_file();
	long max = SSL_get_max_proto_version(ssl);

	report(FOUND_OK, "openssl.cnf: %s", file != NULL ? file : "none");
	OPENSSL_free(file);
	report(FOUND_OK, "protocols: %s and up%s%s",
	       protocol(SSL_get_min_proto_version(ssl), "any"), max == 0 ? "" : " to ",
	       protocol(max, ""));
	report_ciphers(ssl);
}

/* OpenSSL tells the other side's only: without --groups our client offered what openssl.cnf says, which is the server's list too. */
static void report_groups(SSL *server, const char *given)
{
	int numbers[64], n = given == NULL ? (int)SSL_get1_groups(server, NULL) : 0;
	char list[1024] = "";

	if (given != NULL)
		report(FOUND_OK, "groups: %s", given);
	if (n <= 0 || n > 64)
		return;
	SSL_get1_groups(server, numbers);
	for (int i = 0; i < n; i++) {
		const char *name = SSL_group_to_name(server, numbers[i]);

		strlcat(list, list[0] != '\0' ? ":" : "", sizeof list);
		strlcat(list, name != NULL ? name : "(unknown)", sizeof list);
	}
	report(FOUND_OK, "groups: %s", list);
}

static bool shake(SSL *client, SSL *server)
{
	BIO *a, *b;

	if (BIO_new_bio_pair(&a, 0, &b, 0) != 1)
		return false;
	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	for (int i = 0; i < 100; i++) {
		ERR_clear_error();
		bool one = SSL_do_handshake(client) == 1, other = SSL_do_handshake(server) == 1;
		if (one && other)
			return true;
		if (ERR_peek_error() != 0)
			return false;
	}
	return false;
}

/* A client that wants what the server has: what is left to differ is certificate and key, and the groups, of which any client has its own. */
static SSL *make_client(SSL_CTX *ctx, SSL *server, const struct options *o)
{
	if (ctx == NULL ||
	    SSL_CTX_set_min_proto_version(ctx, (int)SSL_get_min_proto_version(server)) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, (int)SSL_get_max_proto_version(server)) != 1)
		return NULL;
	if ((o->ciphers != NULL && SSL_CTX_set_cipher_list(ctx, o->ciphers) != 1) ||
	    (o->ciphersuites != NULL && SSL_CTX_set_ciphersuites(ctx, o->ciphersuites) != 1))
		return NULL;
	return SSL_new(ctx);
}

/* A handshake with ourselves shows what reading the settings cannot: that the parts fit together. */
static void report_handshake(SSL *server, const struct options *o)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *client = make_client(ctx, server, o);

	if (client == NULL || !shake(client, server))
		report(FOUND_ERROR, "trial handshake: failed: %s",
		       tls_reason("no reason given"));
	else {
		report_groups(server, o->groups);
		report(FOUND_OK, "trial handshake: %s, %s", SSL_get_version(server),
		       SSL_get_cipher_name(server));
	}
	SSL_free(client);
	SSL_CTX_free(ctx);
}

bool tls_report(const struct options *o)
{
	struct tls *t;
	struct error e;
	bool open = tls_open(&t, o, &e);

	if (!open)
		report(FOUND_ERROR, "%s", e.text);
	for (int i = 0; i < OPTIONS_CERTS && o->cert[i] != NULL; i++) {
		if (o->cert[1] != NULL)
			report(FOUND_OK, "in \"%s\":", o->cert[i]);
		report_certificate(o->cert[i]);
	}
	if (open)
		report(FOUND_OK,
		       "private key: it belongs to the certificate; its owner and mode are right");
	if (o->ca != NULL)
		tls_report_trust(o->ca, o->crl);
	if (!open)
		return false;
	report_settings(tls_ssl(t));
	report_handshake(tls_ssl(t), o);
	tls_wipe_key(t);
	return true;
}
