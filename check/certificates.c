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
#include <sys/stat.h>
#include <time.h>

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tls/internal.h"

#define DAYS_CERT  30 /* a certificate with fewer days left is warned of */
#define DAYS_CRL   2  /* the same for a revocation list: many live for a week only */
#define LIST_SIZE  2048
#define NAMES_SOON 16384
#define STRENGTH   112 /* bits of security: RSA 2048, NIST SP 800-57's least today */

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

static bool in_force(const ASN1_TIME *from, const ASN1_TIME *until)
{
	time_t now = time(NULL);

	return ASN1_TIME_cmp_time_t(from, now) <= 0 && ASN1_TIME_cmp_time_t(until, now) >= 0;
}

/* `level` holds outside of the time. Fewer than `soon` days left are a warning. */
static void report_dates(const char *what, const char *whose, const ASN1_TIME *from,
			 const ASN1_TIME *until, int soon, int level)
{
	bool early = ASN1_TIME_cmp_time_t(from, time(NULL)) > 0;
	int days = 0, seconds = 0;
	struct tm tm = {.tm_mday = 1};
	char date[32];

	ASN1_TIME_diff(&days, &seconds, NULL, until);
	ASN1_TIME_to_tm(early ? from : until, &tm);
	strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S UTC", &tm);
	if (early)
		check_line(level,
			   "%s%s: not valid before %s: wait, or correct this machine's clock", what,
			   whose, date);
	else if (!in_force(from, until))
		check_line(level, "%s%s: EXPIRED at %s: replace it", what, whose, date);
	else
		check_line(days < soon ? LOG_WARNING : LOG_INFO,
			   "%s%s: valid until %s: %d day%s left%s", what, whose, date, days,
			   days == 1 ? "" : "s", days < soon ? ": replace it soon" : "");
}

static void report_validity(const char *what, const char *whose, const X509 *x, int level)
{
	report_dates(what, whose, X509_get0_notBefore(x), X509_get0_notAfter(x), DAYS_CERT, level);
}

/* What OpenSSL's errors mean to the owner of the file. The last row is for all others. */
static const struct doubt {
	int error;
	const char *text;
} doubts[] = {
    {X509_V_ERR_INVALID_CA, "is not allowed to sign certificates (basicConstraints)"},
    {X509_V_ERR_INVALID_PURPOSE, "is not for servers (extendedKeyUsage, keyUsage)"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, "has no issuer in the file; append it"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "has no issuer in the file; append it"},
    {0, "does not verify"},
};

/* Verify `x` against the authorities in `store`; if `now` as a handshake does, else without dates
 * and revocation lists. The result is in the context, which the caller frees. */
static X509_STORE_CTX *verify(X509 *x, X509_STORE *store, STACK_OF(X509) * others, bool now)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();

	if (X509_STORE_CTX_init(ctx, store, x, others) != 1)
		return ctx;
	if (!now) {
		X509_VERIFY_PARAM_clear_flags(X509_STORE_CTX_get0_param(ctx),
					      X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
		X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_NO_CHECK_TIME);
	}
	(void)X509_verify_cert(ctx);
	return ctx;
}

static bool report_verified(X509_STORE_CTX *ctx, const char *what)
{
	int error = X509_STORE_CTX_get_error(ctx);
	const struct doubt *d = doubts;

	while (d->error != error && d->error != 0)
		d++;
	if (error != X509_V_OK)
		check_error("%s: \"%s\" %s: %s at depth %d",
			    error == X509_V_ERR_INVALID_PURPOSE ? "purpose" : what,
			    subject(X509_STORE_CTX_get_current_cert(ctx)), d->text,
			    X509_verify_cert_error_string(error),
			    X509_STORE_CTX_get_error_depth(ctx));
	return error == X509_V_OK;
}

/* `known`: the text of the error that is already reported, perhaps with a cure, or "". */
static void report_error(const struct error *e, const char *known)
{
	if (strncmp(known, e->text, strlen(e->text)) != 0)
		check_error("%s", e->text);
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
		check_warning("names: none (no subjectAltName): libpq then uses the CN, other "
			      "clients refuse the certificate");
	check_ok("issuer: %s", dn(X509_get_issuer_name(leaf)));
	report_validity("certificate", "", leaf, LOG_ERR);
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
	X509_STORE_CTX *ctx = verify(sk_X509_value(all, 0), known, all, false);
	bool is_known = X509_STORE_CTX_get_error(ctx) == X509_V_OK;
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	if (is_root && n == 1)
		check_note("chain: self-signed: clients need this certificate as sslrootcert");
	else if (is_root)
		check_ok(
		    "chain: complete, %d certificates including the root (which may be omitted)",
		    n);
	else if (is_known)
		check_ok(
		    "chain: complete, %d certificate%s; the root is trusted on this machine: %s", n,
		    n == 1 ? "" : "s", subject(sk_X509_value(chain, sk_X509_num(chain) - 1)));
	else
		check_line(
		    public ? LOG_WARNING : LOG_NOTICE,
		    "chain: ends below \"%s\": correct if clients have that as root; if it is an "
		    "intermediate authority, append its certificate",
		    dn(X509_get_issuer_name(last)));
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(known);
}

/* Is the file in order, and does it lead to its last certificate, whether that is a root or not? */
static void report_chain(STACK_OF(X509) * all)
{
	X509 *leaf = sk_X509_value(all, 0), *last = leaf;

	for (int i = 1; i < sk_X509_num(all); i++) {
		X509 *x = sk_X509_value(all, i);

		report_validity("chain: ", subject(x), x, LOG_ERR);
		if (X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(last)) != 0) {
			check_warning(
			    "chain: out of order: \"%s\" is not the issuer of \"%s\" before it",
			    subject(x), subject(last));
			return;
		}
		last = x;
	}
	X509_STORE *store = X509_STORE_new();
	X509_STORE_add_cert(store, last);
	X509_STORE_set_purpose(store, X509_PURPOSE_SSL_SERVER);
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	X509_STORE_CTX *ctx = verify(leaf, store, all, false);
	if (report_verified(ctx, "chain"))
		report_end_of_chain(all, last);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
}

static void report_certificate(const char *file, const char *known)
{
	STACK_OF(X509) *all = NULL;
	struct tls_pem_file text;
	struct error e = {.status = EX_OK};

	if (tls_pem_file_read(&text, file, "", &e)) {
		all = tls_parse_certificates(&text, file, &e);
		if (tls_pem_skips(&text))
			fail(&e, EX_CONFIG, TLS_SKIPPED, file);
		tls_pem_file_wipe(&text);
	}
	if (e.status != EX_OK)
		report_error(&e, known);
	if (all == NULL)
		return;
	report_leaf(sk_X509_value(all, 0));
	report_chain(all);
	sk_X509_pop_free(all, X509_free);
}

/* ---- authorities and revocation lists ---- */

#define LIST "revocation list of "

struct trust {
	X509_STORE *store;
	STACK_OF(X509) * authorities;
	STACK_OF(X509_CRL) * lists;
	STACK_OF(X509_CRL) * refused; /* lists because of which clients are refused */
};

static ISSUING_DIST_POINT *issuing_point(const X509_CRL *crl)
{
	return X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, NULL, NULL);
}

/* Is there a valid authority other than those above `x`? Clients may have moved to that. */
static bool has_successor(const struct trust *t, X509 *x)
{
	X509_STORE_CTX *ctx = verify(x, t->store, NULL, false);
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	bool found = false;

	for (int i = 0; i < sk_X509_num(t->authorities) && !found; i++) {
		X509 *other = sk_X509_value(t->authorities, i);
		X509_STORE_CTX *theirs = verify(other, t->store, NULL, true);
		found = X509_check_ca(other) != 0 && sk_X509_find(chain, other) < 0 &&
			X509_STORE_CTX_get_error(theirs) == X509_V_OK;
		X509_STORE_CTX_free(theirs);
	}
	X509_STORE_CTX_free(ctx);
	return found;
}

/* OpenSSL takes one of them for every certificate that does not say which key has signed it. */
static void report_namesakes(const struct trust *t, int i)
{
	X509 *x = sk_X509_value(t->authorities, i);

	for (int k = 0; k < i; k++) {
		X509 *other = sk_X509_value(t->authorities, k);
		if (X509_NAME_cmp(X509_get_subject_name(x), X509_get_subject_name(other)) == 0 &&
		    EVP_PKEY_eq(X509_get0_pubkey(x), X509_get0_pubkey(other)) != 1)
			check_warning("authority: \"%s\" has the same name as another in the file, "
				      "but another key: certificates without "
				      "authorityKeyIdentifier are accepted from one of them only",
				      subject(x));
	}
}

/* A client's certificate as an authority issues it, with the distribution points of all lists. */
static X509 *make_client(const struct trust *t, const X509 *authority)
{
	CRL_DIST_POINTS *points = sk_DIST_POINT_new_null();
	X509 *client = X509_new();

	for (int i = 0; i < sk_X509_CRL_num(t->lists); i++) {
		ISSUING_DIST_POINT *idp = issuing_point(sk_X509_CRL_value(t->lists, i));
		if (idp != NULL && idp->distpoint != NULL) {
			DIST_POINT *point = DIST_POINT_new();
			point->distpoint = idp->distpoint;
			idp->distpoint = NULL;
			sk_DIST_POINT_push(points, point);
		}
		ISSUING_DIST_POINT_free(idp);
	}
	X509_set_issuer_name(client, X509_get_subject_name(authority));
	if (sk_DIST_POINT_num(points) > 0)
		X509_add1_ext_i2d(client, NID_crl_distribution_points, points, 0, 0);
	sk_DIST_POINT_pop_free(points, DIST_POINT_free);
	(void)X509_check_purpose(client, -1, 0); /* OpenSSL then knows them */
	return client;
}

/*
 * OpenSSL calls this with its first error for a client of the authority that is next in the chain.
 * That an authority further up has no list is reported with that one.
 */
static int report_refusal(int ok, X509_STORE_CTX *ctx)
{
	struct trust *t = X509_STORE_CTX_get_app_data(ctx);
	int error = X509_STORE_CTX_get_error(ctx);
	const X509_NAME *issuer = X509_get_issuer_name(X509_STORE_CTX_get_current_cert(ctx));

	if (ok)
		return ok;
	if (error == X509_V_ERR_CRL_HAS_EXPIRED || error == X509_V_ERR_CRL_NOT_YET_VALID)
		sk_X509_CRL_push(t->refused, X509_STORE_CTX_get0_current_crl(ctx));
	else if (error != X509_V_ERR_UNABLE_TO_GET_CRL)
		check_error(LIST "\"%s\": %s: clients of \"%s\" are refused", dn(issuer),
			    error == X509_V_ERR_CRL_SIGNATURE_FAILURE
				? "not signed by that authority's key"
				: X509_verify_cert_error_string(error),
			    subject(sk_X509_value(X509_STORE_CTX_get0_chain(ctx), 1)));
	else if (X509_STORE_CTX_get_error_depth(ctx) == 0)
		check_error(
		    "revocation list: none of \"%s\": all certificates that it issued are refused",
		    dn(issuer));
	return ok;
}

/* Have OpenSSL look for the lists of a client that the first of `chain` has signed. */
static void report_revocation(struct trust *t, STACK_OF(X509) * chain)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509 *client = make_client(t, sk_X509_value(chain, 0));
	STACK_OF(X509) *all = X509_chain_up_ref(chain);

	sk_X509_unshift(all, client);
	X509_STORE_CTX_init(ctx, t->store, client, NULL);
	X509_STORE_CTX_set_app_data(ctx, t);
	X509_STORE_CTX_set_verify_cb(ctx, report_refusal);
	X509_STORE_CTX_set0_verified_chain(ctx, all);
	(void)X509_STORE_CTX_get_check_revocation(ctx)(ctx);
	X509_STORE_CTX_free(ctx);
}

static void report_authority(struct trust *t, X509 *x, bool crl)
{
	const ASN1_TIME *from = X509_get0_notBefore(x), *until = X509_get0_notAfter(x);
	int level = in_force(from, until) || !has_successor(t, x) ? LOG_ERR : LOG_WARNING;

	report_validity("authority: ", subject(x), x, level);
	if (X509_check_ca(x) == 0) {
		check_warning(
		    "authority: \"%s\" is not allowed to sign certificates (basicConstraints)",
		    subject(x));
		return;
	}
	if (X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 1) == 0)
		check_error("authority: \"%s\" is not allowed to issue client certificates "
			    "(extendedKeyUsage)",
			    subject(x));
	X509_STORE_CTX *ctx = verify(x, t->store, NULL, false);
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	/* A root is trusted itself, also if OpenSSL finds another of its name: report_namesakes. */
	bool ok = X509_STORE_CTX_get_error(ctx) == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
		  report_verified(ctx, "authority");
	for (int i = 0; i < sk_X509_num(chain); i++) {
		x = sk_X509_value(chain, i);
		ok = ok && in_force(X509_get0_notBefore(x), X509_get0_notAfter(x));
	}
	if (ok && crl)
		report_revocation(t, chain);
	X509_STORE_CTX_free(ctx);
}

static void report_crl(const struct trust *t, X509_CRL *crl)
{
	const X509_NAME *issuer = X509_CRL_get_issuer(crl);
	int revoked = sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)); /* -1 if there is none */
	const ASN1_TIME *until = X509_CRL_get0_nextUpdate(crl);
	ISSUING_DIST_POINT *idp = issuing_point(crl);
	char what[600];

	snprintf(what, sizeof what, "%s, %d revoked", dn(issuer), revoked > 0 ? revoked : 0);
	if (until == NULL)
		check_note(LIST "%s: never expires (no nextUpdate)", what);
	else
		report_dates(LIST, what, X509_CRL_get0_lastUpdate(crl), until, DAYS_CRL,
			     sk_X509_CRL_find(t->refused, crl) >= 0 ? LOG_ERR : LOG_WARNING);
	if (idp != NULL && idp->distpoint != NULL)
		check_note(LIST
			   "\"%s\": applies only to certificates that name its distribution point",
			   dn(issuer));
	ISSUING_DIST_POINT_free(idp);
	if (X509_find_by_subject(t->authorities, issuer) == NULL)
		check_note(LIST "\"%s\": this authority is not in -A", dn(issuer));
}

/* `level`: OpenSSL's security level, by which a handshake judges keys and signatures. */
static void report_trust(const struct options *o, int level, const char *known)
{
	struct trust t = {.store = X509_STORE_new(), .refused = sk_X509_CRL_new_null()};
	struct error e;

	if (!tls_load_store(t.store, o, &e)) { /* go on with what there is */
		ERR_clear_error();
		report_error(&e, known);
	}
	X509_VERIFY_PARAM_set_auth_level(X509_STORE_get0_param(t.store), level);
	X509_STORE_set_trust(t.store, X509_TRUST_SSL_CLIENT);
	t.authorities = X509_STORE_get1_all_certs(t.store);
	t.lists = tls_lists(t.store);
	for (int i = 0; i < sk_X509_num(t.authorities); i++) {
		report_authority(&t, sk_X509_value(t.authorities, i), o->crl != NULL);
		report_namesakes(&t, i);
	}
	for (int i = 0; i < sk_X509_CRL_num(t.lists); i++)
		report_crl(&t, sk_X509_CRL_value(t.lists, i));
	sk_X509_CRL_free(t.lists);
	sk_X509_CRL_free(t.refused);
	sk_X509_pop_free(t.authorities, X509_free);
	X509_STORE_free(t.store);
}

/* OpenSSL reads the other blocks of such a file, and so do connections. */
static void report_skipped(const char *file, const char *known)
{
	struct error e;
	struct stat st;
	bool directory = stat(file, &st) == 0 && S_ISDIR(st.st_mode);

	if (!directory && !tls_file_is_whole(file, &e))
		report_error(&e, known);
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
static void report_tls(const struct options *o)
{
	struct tls *t;
	struct error e;
	bool open = tls_open(&t, o, &e);
	const char *known = open ? "" : e.text;

	if (!open)
		check_error("%s", e.text);
	for (int i = 0; i < OPTIONS_CERTS && o->cert[i] != NULL; i++) {
		if (o->cert[1] != NULL)
			check_ok("in \"%s\":", o->cert[i]);
		report_certificate(o->cert[i], known);
	}
	if (o->key != NULL)
		report_skipped(o->key, known);
	if (o->ca != NULL) {
		report_skipped(tls_authorities(o), known);
		report_trust(o, open ? SSL_CTX_get_security_level(t->ctx) : -1, known);
	}
	if (!open)
		return;
	size_t names = tls_names_size(SSL_CTX_get_client_CA_list(t->ctx));
	if (names > NAMES_SOON)
		check_warning("authorities: their names have %zu bytes: clients that use BoringSSL "
			      "accept only %d",
			      names, NAMES_SOON);
	check_ok("private key: matches the certificate; owner and mode are correct");
	if (tls_try_handshake(t, &e))
		check_ok("trial handshake: %s, %s", tls_version(t), tls_cipher(t));
	else
		check_error("trial handshake: failed: %s", e.text);
	report_settings(t->ssl, o->groups);
	tls_discard(t);
}

void check_tls(const struct options *o)
{
	report_tls(o);
	if (tls_no_memory())
		check_error("out of memory: lines of this report may be missing");
}
