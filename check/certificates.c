/* SPDX-License-Identifier: ISC
 *
 * check/certificates.c - --check: certificates, authorities, revocation lists, TLS settings.
 *
 * Whether a certificate verifies is for OpenSSL to say. Dates are reported before they pass, and so
 * apart. Names are escaped (RFC 2253, log_escape): a report must not drive a terminal.
 */
#include "check/check.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/conf.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tls/internal.h"

#define DAYS_CERT 30 /* a certificate with fewer days left is warned of */
#define DAYS_CRL  2  /* the same for a revocation list: many live for a week only */
#define LIST_SIZE 2048
#define STRENGTH  112 /* bits of security: RSA 2048, NIST SP 800-57's least today */

/* A name for a line. Valid until the second call after this one. */
static const char *dn(const X509_NAME *name)
{
	static char texts[2][512];
	static unsigned next;
	char *text = texts[next++ % 2];

	tls_write_name(name, text, sizeof texts[0]);
	return text[0] != '\0' ? text : "(empty)";
}

static const char *subject(const X509 *x)
{
	return x != NULL ? dn(X509_get_subject_name(x)) : "(none)";
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

/* What OpenSSL's errors mean to the owner of the file. The last row is for all others. */
static const struct doubt {
	int error, level;
	const char *text;
} doubts[] = {
    {X509_V_ERR_INVALID_CA, LOG_ERR, "is not allowed to sign certificates (basicConstraints)"},
    {X509_V_ERR_INVALID_PURPOSE, LOG_ERR, "is not for servers (extendedKeyUsage, keyUsage)"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, LOG_WARNING, "has no issuer in the file; append it"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, LOG_WARNING,
     "has no issuer in the file; append it"},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, LOG_WARNING,
     "has the name of another in the file, which OpenSSL takes instead"},
    {0, LOG_ERR, "does not verify"},
};

/* Verify `x` against the authorities in `store`. Returns the name that its chain ends with; NULL if
 * it does not verify, which is reported if `what` is given. */
static const char *verify(X509 *x, X509_STORE *store, STACK_OF(X509) * others, const char *what)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	const struct doubt *d = doubts;

	X509_STORE_set_flags(store, X509_V_FLAG_NO_CHECK_TIME);
	bool ok = X509_STORE_CTX_init(ctx, store, x, others) == 1 && X509_verify_cert(ctx) == 1;
	int error = X509_STORE_CTX_get_error(ctx);
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	const char *name = subject(ok ? sk_X509_value(chain, sk_X509_num(chain) - 1)
				      : X509_STORE_CTX_get_current_cert(ctx));
	while (d->error != error && d->error != 0)
		d++;
	if (!ok && what != NULL)
		check_line(d->level, "%s: \"%s\" %s: %s at depth %d",
			   error == X509_V_ERR_INVALID_PURPOSE ? "purpose" : what, name, d->text,
			   X509_verify_cert_error_string(error),
			   X509_STORE_CTX_get_error_depth(ctx));
	X509_STORE_CTX_free(ctx);
	return ok ? name : NULL;
}

/* ---- the server's certificate ---- */

static void report_leaf(X509 *leaf)
{
	EVP_PKEY *key = X509_get0_pubkey(leaf);
	char names[LIST_SIZE] = "", size[64];

	check_ok("subject: %s", subject(leaf));
	int bad = tls_write_alt_names(leaf, names, sizeof names);
	if (bad != 0)
		check_warning("names: an iPAddress has %d bytes, not 4 or 16", bad);
	if (names[0] != '\0')
		check_ok("names: %s", names);
	else
		check_warning("names: none (no subjectAltName): libpq then looks at the CN, other "
			      "clients refuse");
	check_ok("issuer: %s", dn(X509_get_issuer_name(leaf)));
	report_validity("certificate", "", leaf);
	if (key == NULL)
		return; /* tls_open has reported it */
	bool weak = EVP_PKEY_get_security_bits(key) < STRENGTH;
	if (EVP_PKEY_get_group_name(key, size, sizeof size, NULL) != 1)
		snprintf(size, sizeof size, "%d bits", EVP_PKEY_get_bits(key));
	check_line(weak ? LOG_WARNING : LOG_INFO, "key: %s, %s%s", EVP_PKEY_get0_type_name(key),
		   size, weak ? ": weak; use RSA with 2048 bits or more, or EC P-256" : "");
}

/* The file's certificates verify, in their order. Do clients get as far as a root? */
static void report_end_of_chain(STACK_OF(X509) * all, X509 *last)
{
	int n = sk_X509_num(all);
	bool is_root = X509_self_signed(last, 1) == 1;
	/* Only public authorities tend to say where their own certificate is. */
	bool public = X509_get_ext_by_NID(last, NID_info_access, -1) >= 0;
	X509_STORE *known = X509_STORE_new();

	X509_STORE_set_default_paths(known);
	const char *root = verify(sk_X509_value(all, 0), known, all, NULL);
	X509_STORE_free(known);
	if (is_root && n == 1)
		check_note("chain: self-signed: clients need this very certificate as sslrootcert");
	else if (is_root)
		check_ok("chain: complete, %d certificates with the root (clients do not need it)",
			 n);
	else if (root != NULL)
		check_ok("chain: complete, %d certificate%s; this machine knows their root, %s", n,
			 n == 1 ? "" : "s", root);
	else
		check_line(public ? LOG_WARNING : LOG_NOTICE,
			   "chain: ends below \"%s\": right if that is the root that clients have; "
			   "append the certificate of an intermediate authority",
			   dn(X509_get_issuer_name(last)));
}

/* Is the file in order, and does it lead to its last certificate, whether that is a root or not? */
static void report_chain(STACK_OF(X509) * all)
{
	X509 *leaf = sk_X509_value(all, 0), *last = leaf;

	for (int i = 1; i < sk_X509_num(all); i++) {
		X509 *x = sk_X509_value(all, i);

		report_validity("chain: ", subject(x), x);
		if (X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(last)) != 0) {
			check_warning("chain: out of order: \"%s\" has not signed \"%s\" before it",
				      subject(x), subject(last));
			return;
		}
		last = x;
	}
	X509_STORE *store = X509_STORE_new();
	X509_STORE_add_cert(store, last);
	X509_STORE_set_purpose(store, X509_PURPOSE_SSL_SERVER);
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	if (verify(leaf, store, all, "chain") != NULL)
		report_end_of_chain(all, last);
	X509_STORE_free(store);
}

static void report_certificate(const char *file)
{
	struct tls_pem_file text;
	struct error e;

	if (!tls_pem_file_read(&text, file, "", &e))
		return; /* tls_open has reported it */
	STACK_OF(X509) *all = tls_parse_certificates(&text, file, &e);
	tls_pem_file_wipe(&text);
	if (all == NULL)
		return;
	report_leaf(sk_X509_value(all, 0));
	report_chain(all);
	sk_X509_pop_free(all, X509_free);
}

/* ---- authorities and revocation lists ---- */

#define LIST "revocation list of "

static void report_crl(X509_CRL *crl, STACK_OF(X509) * authorities)
{
	const char *issuer = dn(X509_CRL_get_issuer(crl));
	X509 *by = X509_find_by_subject(authorities, X509_CRL_get_issuer(crl));
	int revoked = sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)); /* -1 if there is none */
	const ASN1_TIME *until = X509_CRL_get0_nextUpdate(crl);
	char what[600];

	snprintf(what, sizeof what, "%s, %d revoked", issuer, revoked > 0 ? revoked : 0);
	if (until == NULL)
		check_note(LIST "%s: never expires (no nextUpdate)", what);
	else
		report_dates(LIST, what, X509_CRL_get0_lastUpdate(crl), until, DAYS_CRL);
	if (by == NULL)
		check_note(LIST "\"%s\": no such authority in -A's file", issuer);
	else if (X509_CRL_verify(crl, X509_get0_pubkey(by)) != 1)
		check_error(LIST "\"%s\": not signed by that authority's key", issuer);
}

/* An authority without a list has its certificates refused. */
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
		check_error("revocation list: none of \"%s\": all that it signed is refused",
			    subject(x));
	sk_X509_free(missing);
	BIO_free(bio);
}

static void report_trust(const char *ca, const char *crl)
{
	X509_STORE *store = X509_STORE_new();

	X509_STORE_load_file(store, ca);
	STACK_OF(X509) *authorities = X509_STORE_get1_all_certs(store);
	for (int i = 0; i < sk_X509_num(authorities); i++) {
		X509 *x = sk_X509_value(authorities, i);

		report_validity("authority: ", subject(x), x);
		if (X509_check_ca(x) != 0)
			verify(x, store, NULL, "authority");
		else
			check_warning("authority: \"%s\" is none that may sign certificates",
				      subject(x));
	}
	if (crl != NULL)
		report_crls(crl, authorities);
	sk_X509_pop_free(authorities, X509_free);
	X509_STORE_free(store);
}

/* ---- the settings ---- */

/* What server and client share is all that the server has: their settings are the same. */
static void report_settings(SSL *server, const char *groups)
{
	char *file = CONF_get1_default_config_file();
	char suites[4096] = "", *ciphers = suites, list[LIST_SIZE] = "";
	long min = SSL_get_min_proto_version(server), max = SSL_get_max_proto_version(server);
	const char *upto = max == 0 ? "" : max == TLS1_2_VERSION ? " to TLSv1.2" : " to TLSv1.3";

	check_ok("openssl.cnf: %s", file != NULL ? file : "none");
	OPENSSL_free(file);
	check_ok("protocols: TLSv1.%d and up%s", min == TLS1_3_VERSION ? 3 : 2, upto);
	if (SSL_get_shared_ciphers(server, suites, sizeof suites - 1) != NULL)
		strlcat(suites, ":", sizeof suites);
	while (strncmp(ciphers, "TLS_", 4) == 0) /* those of TLS 1.3 come first */
		ciphers += strcspn(ciphers, ":") + 1;
	if (ciphers > suites)
		check_ok("TLS 1.3 suites: %.*s", (int)(ciphers - suites) - 1, suites);
	if (ciphers[0] != '\0')
		check_ok("TLS 1.2 ciphers: %.*s", (int)strlen(ciphers) - 1, ciphers);
	for (int i = 0, group; (group = (int)SSL_get_shared_group(server, i)) != 0; i++)
		snprintf(list + strlen(list), sizeof list - strlen(list), ":%s",
			 SSL_group_to_name(server, group));
	if (groups != NULL || list[0] != '\0')
		check_ok("groups: %s", groups != NULL ? groups : list + strlen(":"));
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
	if (o->ca != NULL)
		report_trust(o->ca, o->crl);
	if (!open)
		return;
	check_ok("private key: it belongs to the certificate; its owner and mode are right");
	if (tls_try_handshake(t, &e))
		check_ok("trial handshake: %s, %s", tls_version(t), tls_cipher(t));
	else
		check_error("trial handshake: failed: %s", e.text);
	report_settings(t->ssl, o->groups);
}
