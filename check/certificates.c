/* SPDX-License-Identifier: ISC
 *
 * check/certificates.c - --check: certificates, authorities, revocation lists, TLS settings.
 *
 * Whether a certificate verifies is for OpenSSL to say. Dates are reported before they pass, and so
 * apart. Names are escaped (RFC 2253, log_escape): a report must not drive a terminal.
 */
#include "check/check.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tls/internal.h"

#define DAYS_CERT 30  /* a certificate with fewer days left is warned of */
#define DAYS_CRL  2   /* the same for a revocation list: many live for a week only */
#define STRENGTH  112 /* bits of security: RSA 2048, NIST SP 800-57's least today */

/* A name for a line. Valid until the second call after this one. */
static const char *dn(const X509_NAME *name)
{
	static char texts[2][512];
	static unsigned next;
	char *text = texts[next++ % 2];

	write_name(name, text, sizeof texts[0]);
	return text[0] != '\0' ? text : "(empty)";
}

static const char *subject(const X509 *x)
{
	return dn(X509_get_subject_name(x));
}

static void append(char *list, size_t size, const char *separator, const char *item)
{
	strlcat(list, list[0] != '\0' ? separator : "", size);
	strlcat(list, item, size);
}

/* Fewer than `soon` days left are a warning. */
static void report_dates(const char *what, const char *whose, const ASN1_TIME *from,
			 const ASN1_TIME *until, int soon)
{
	bool early = ASN1_TIME_cmp_time_t(from, time(NULL)) > 0;
	int days = 0, seconds = 0;
	struct tm tm = {.tm_mday = 1};
	char date[32];

	ASN1_TIME_diff(&days, &seconds, NULL, until);
	ASN1_TIME_to_tm(early ? from : until, &tm);
	strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S UTC", &tm);
	if (early)
		check_error("%s%s: not valid before %s: wait, or set this machine's clock", what,
			    whose, date);
	else if (days < 0 || seconds < 0)
		check_error("%s%s: EXPIRED at %s: replace it", what, whose, date);
	else
		check_line(days < soon ? LOG_WARNING : LOG_INFO,
			   "%s%s: valid until %s: %d day%s left%s", what, whose, date, days,
			   days == 1 ? "" : "s", days < soon ? ": replace it soon" : "");
}

static void report_validity(const char *what, const char *whose, const X509 *x)
{
	report_dates(what, whose, X509_get0_notBefore(x), X509_get0_notAfter(x), DAYS_CERT);
}

/* ---- verification ---- */

/* OpenSSL's errors for users; all others are errors in its own words. */
static const struct doubt {
	int error, level;
	const char *topic, *text;
} doubts[] = {
    {X509_V_ERR_INVALID_PURPOSE, LOG_ERR,
     "purpose: ", "is not for servers (keyUsage, extendedKeyUsage); clients that verify refuse it"},
    {X509_V_ERR_INVALID_CA, LOG_ERR, "", "is not allowed to sign certificates"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, LOG_WARNING, "", "has no issuer in the file: append it"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, LOG_WARNING, "",
     "has no issuer in the file: append it"},
    {0, LOG_ERR, "", "does not verify"},
};

static void report_doubt(const char *what, const X509_STORE_CTX *ctx)
{
	int error = X509_STORE_CTX_get_error(ctx);
	const struct doubt *d = doubts;

	while (d->error != 0 && d->error != error)
		d++;
	check_line(d->level, "%s\"%s\" %s (%s at depth %d)", d->topic[0] != '\0' ? d->topic : what,
		   subject(X509_STORE_CTX_get_current_cert(ctx)), d->text,
		   X509_verify_cert_error_string(error), X509_STORE_CTX_get_error_depth(ctx));
}

/*
 * Verify `x` against the authorities in `store`, by way of `others`. Returns the name of the one that
 * the chain ends with, or NULL, which is reported if `what` is given.
 */
static const char *verify(X509 *x, X509_STORE *store, STACK_OF(X509) * others, const char *what)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	const char *end = NULL;

	X509_STORE_set_flags(store, X509_V_FLAG_NO_CHECK_TIME);
	if (X509_STORE_CTX_init(ctx, store, x, others) == 1 && X509_verify_cert(ctx) == 1) {
		STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
		end = subject(sk_X509_value(chain, sk_X509_num(chain) - 1));
	} else if (what != NULL) {
		report_doubt(what, ctx);
	}
	X509_STORE_CTX_free(ctx);
	ERR_clear_error();
	return end;
}

/* ---- the server's certificate ---- */

/* A subject alternative name, as openssl-x509(1) writes it. */
static void append_name(char *list, size_t size, int type, const unsigned char *value, int len)
{
	static const char *const labels[] = {
	    [GEN_DNS] = "DNS:", [GEN_IPADD] = "IP:", [GEN_EMAIL] = "email:", [GEN_URI] = "URI:"};
	char text[256];

	if (type == GEN_IPADD && len != 4 && len != 16) {
		check_warning("names: an iPAddress has %d bytes, not 4 or 16", len);
		return;
	}
	if (type == GEN_IPADD)
		inet_ntop(len == 4 ? AF_INET : AF_INET6, value, text, sizeof text);
	else
		log_escape(text, sizeof text, (const char *)value, (size_t)len);
	append(list, size, ", ", labels[type]);
	append(list, size, "", text);
}

static void report_names(const X509 *leaf)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	char list[2048] = "";

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		int type;
		void *s = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
		if (type == GEN_DNS || type == GEN_IPADD || type == GEN_EMAIL || type == GEN_URI)
			append_name(list, sizeof list, type, ASN1_STRING_get0_data(s),
				    ASN1_STRING_length(s));
	}
	GENERAL_NAMES_free(names);
	if (list[0] != '\0')
		check_ok("names: %s", list);
	else
		check_warning("names: none (no subjectAltName): libpq then looks at the CN, other "
			      "clients refuse; make a certificate with the host's names");
}

static void report_key(const X509 *leaf)
{
	EVP_PKEY *key = X509_get0_pubkey(leaf);
	char size[64];

	if (key == NULL) {
		check_error("key: of a type that this OpenSSL does not know");
		return;
	}
	if (EVP_PKEY_get_group_name(key, size, sizeof size, NULL) != 1)
		snprintf(size, sizeof size, "%d bits", EVP_PKEY_get_bits(key));
	bool weak = EVP_PKEY_get_security_bits(key) < STRENGTH;
	check_line(weak ? LOG_WARNING : LOG_INFO, "key: %s, %s%s", EVP_PKEY_get0_type_name(key),
		   size, weak ? ": weak; use RSA with 2048 bits or more, or EC P-256" : "");
}

/* The certificates in the file verify. Do clients get as far as a root? */
static void report_end_of_chain(X509 *leaf, STACK_OF(X509) * others, X509 *last)
{
	int n = 1 + (others != NULL ? sk_X509_num(others) : 0);
	X509_STORE *known = X509_STORE_new();
	const char *root;

	X509_STORE_set_default_paths(known);
	if (X509_self_signed(last, 1) == 1 && n == 1)
		check_note("chain: self-signed: clients need this very certificate as sslrootcert");
	else if (X509_self_signed(last, 1) == 1)
		check_ok("chain: complete, %d certificates with the root (clients do not need it)",
			 n);
	else if ((root = verify(leaf, known, others, NULL)) != NULL)
		check_ok("chain: complete, %d certificate%s; this machine knows their root, %s", n,
			 n == 1 ? "" : "s", root);
	else /* it is seldom private authorities that say where their own certificate is */
		check_line(X509_get_ext_by_NID(last, NID_info_access, -1) >= 0 ? LOG_WARNING
									       : LOG_NOTICE,
			   "chain: ends below \"%s\": right if that is the root that clients have "
			   "as sslrootcert; append an intermediate authority's certificate",
			   dn(X509_get_issuer_name(last)));
	X509_STORE_free(known);
}

static void report_chain(X509 *leaf, STACK_OF(X509) * others)
{
	X509_STORE *store = X509_STORE_new();
	X509 *last = leaf;

	for (int i = 0; i < sk_X509_num(others); i++) {
		X509 *x = sk_X509_value(others, i);

		report_validity("chain: ", subject(x), x);
		if (X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(last)) != 0) {
			check_warning(
			    "chain: out of order: \"%s\" has not signed \"%s\" before it; "
			    "the server's certificate comes first, then each one's issuer",
			    subject(x), subject(last));
			X509_STORE_free(store);
			return;
		}
		last = x;
	}
	X509_STORE_add_cert(store, last);
	X509_STORE_set_purpose(store, X509_PURPOSE_SSL_SERVER);
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	if (verify(leaf, store, others, "chain: ") != NULL)
		report_end_of_chain(leaf, others, last);
	X509_STORE_free(store);
}

/* OpenSSL reads the chain; a file that it cannot read was reported by tls_open. */
static void report_certificate(const char *file)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	STACK_OF(X509) *others = NULL;

	SSL_CTX_set_security_level(ctx, 0);
	if (SSL_CTX_use_certificate_chain_file(ctx, file) == 1) {
		X509 *leaf = SSL_CTX_get0_certificate(ctx);

		SSL_CTX_get0_chain_certs(ctx, &others);
		check_ok("subject: %s", subject(leaf));
		report_names(leaf);
		check_ok("issuer: %s", dn(X509_get_issuer_name(leaf)));
		report_validity("certificate", "", leaf);
		report_key(leaf);
		report_chain(leaf, others);
	}
	SSL_CTX_free(ctx);
	ERR_clear_error();
}

/* ---- authorities and revocation lists ---- */

static void report_authority(X509 *x, X509_STORE *store)
{
	report_validity("authority: ", subject(x), x);
	if (X509_check_ca(x) != 0)
		verify(x, store, NULL, "authority: ");
	else
		check_warning("authority: \"%s\" is none of those that may sign certificates "
			      "(basicConstraints)",
			      subject(x));
}

static void report_crl(X509_CRL *crl, STACK_OF(X509) * authorities)
{
	const char *issuer = dn(X509_CRL_get_issuer(crl));
	X509 *by = X509_find_by_subject(authorities, X509_CRL_get_issuer(crl));
	STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(crl); /* NULL if there is none */
	char what[600];

	snprintf(what, sizeof what, "revocation list of %s, %d revoked", issuer,
		 revoked == NULL ? 0 : sk_X509_REVOKED_num(revoked));
	if (X509_CRL_get0_nextUpdate(crl) == NULL)
		check_note("%s: never expires (no nextUpdate)", what);
	else
		report_dates(what, "", X509_CRL_get0_lastUpdate(crl), X509_CRL_get0_nextUpdate(crl),
			     DAYS_CRL);
	if (by == NULL)
		check_note("revocation list of \"%s\": no such authority in -A's file", issuer);
	else if (X509_CRL_verify(crl, X509_get0_pubkey(by)) != 1)
		check_error("revocation list of \"%s\": not signed by that authority's key",
			    issuer);
}

/* Each authority must have a list: without one, the certificates that it signed are refused. */
static void report_crls(const char *file, STACK_OF(X509) * authorities)
{
	STACK_OF(X509) *missing = sk_X509_dup(authorities);
	BIO *bio = BIO_new_file(file, "r");
	X509_CRL *crl;
	X509 *x;

	while (bio != NULL && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, (void *)"")) != NULL) {
		report_crl(crl, authorities);
		while ((x = X509_find_by_subject(missing, X509_CRL_get_issuer(crl))) != NULL)
			sk_X509_delete_ptr(missing, x);
		X509_CRL_free(crl);
	}
	while ((x = sk_X509_shift(missing)) != NULL)
		check_error("revocation list: none of \"%s\" in --crl's file: certificates that it "
			    "signed will be refused",
			    subject(x));
	sk_X509_free(missing);
	BIO_free(bio);
}

static void report_trust(const char *ca, const char *crl)
{
	X509_STORE *store = X509_STORE_new();
	STACK_OF(X509) * authorities;

	X509_STORE_load_file(store, ca);
	authorities = X509_STORE_get1_all_certs(store);
	for (int i = 0; i < sk_X509_num(authorities); i++)
		report_authority(sk_X509_value(authorities, i), store);
	if (crl != NULL)
		report_crls(crl, authorities);
	sk_X509_pop_free(authorities, X509_free);
	X509_STORE_free(store);
	ERR_clear_error();
}

/* ---- the settings and a trial handshake ---- */

static void report_settings(SSL *ssl)
{
	char *file = CONF_get1_default_config_file();
	long min = SSL_get_min_proto_version(ssl), max = SSL_get_max_proto_version(ssl);

	check_ok("openssl.cnf: %s", file != NULL ? file : "none");
	OPENSSL_free(file);
	check_ok("protocols: TLSv1.%d and up%s", min == TLS1_3_VERSION ? 3 : 2,
		 max == TLS1_2_VERSION   ? " to TLSv1.2"
		 : max == TLS1_3_VERSION ? " to TLSv1.3"
					 : "");
}

static void report_ciphers(SSL *client, const char *what, const char *version)
{
	STACK_OF(SSL_CIPHER) *all = SSL_get1_supported_ciphers(client);
	char list[4096] = "";

	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(all, i);
		if (strcmp(SSL_CIPHER_get_version(cipher), version) == 0)
			append(list, sizeof list, ":", SSL_CIPHER_get_name(cipher));
	}
	sk_SSL_CIPHER_free(all);
	if (list[0] != '\0')
		check_ok("%s: %s", what, list);
}

/* OpenSSL shows only the groups of the peer. Ours has the same. */
static void report_groups(SSL *server, const char *given)
{
	int groups[64], n = (int)SSL_get1_groups(server, NULL);
	char list[1024] = "";

	if (given == NULL && n <= 64 && SSL_get1_groups(server, groups) > 0)
		for (int i = 0; i < n; i++)
			append(list, sizeof list, ":", SSL_group_to_name(server, groups[i]));
	check_ok("groups: %s", given != NULL ? given : list);
}

static bool shake_hands(SSL *client, SSL *server)
{
	bool client_done = false, server_done = false;
	BIO *a, *b;

	if (BIO_new_bio_pair(&a, 0, &b, 0) != 1)
		return false;
	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	ERR_clear_error();
	while (!(client_done && server_done) && ERR_peek_error() == 0) {
		client_done = SSL_do_handshake(client) == 1;
		server_done = SSL_do_handshake(server) == 1;
	}
	return client_done && server_done;
}

/* The client has the server's settings: a failure means that certificate and settings do not fit. */
static void report_handshake(SSL *server, const struct options *o)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct error e;
	SSL *client = settings_apply(ctx, o, &e) ? SSL_new(ctx) : NULL;

	report_ciphers(client, "TLS 1.3 suites", "TLSv1.3");
	report_ciphers(client, "TLS 1.2 ciphers", "TLSv1.2");
	if (shake_hands(client, server)) {
		report_groups(server, o->groups);
		check_ok("trial handshake: %s, %s", SSL_get_version(server),
			 SSL_get_cipher_name(server));
	} else {
		check_error("trial handshake: failed: %s", openssl_reason("no reason given"));
	}
	SSL_free(client);
	SSL_CTX_free(ctx);
}

/* tls_open does what a connection does; then each file by itself, for more than its first error. */
void check_tls(const struct options *o)
{
	struct tls *t;
	struct error e;
	bool open = tls_open(&t, o, &e);

	if (!open)
		check_error("%s", e.text);
	for (int i = 0; i < OPTIONS_CERTS && o->cert[i] != NULL; i++) {
		if (o->cert[1] != NULL)
			check_ok("in \"%s\":", o->cert[i]);
		report_certificate(o->cert[i]);
	}
	if (open)
		check_ok(
		    "private key: it belongs to the certificate; its owner and mode are right");
	if (o->ca != NULL)
		report_trust(o->ca, o->crl);
	if (open) {
		report_settings(tls_ssl(t));
		report_handshake(tls_ssl(t), o);
		tls_wipe_key(t);
	}
}
