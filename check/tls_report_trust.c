/* SPDX-License-Identifier: ISC
 *
 * check/tls_report_trust.c - --check: authorities and revocation lists for clients' certificates (-A, --crl).
 *
 * An expired list, or an authority without one, refuses every client: that is what must be known before the clients know it.
 */
#include "check/tls_report.h"

#include <stdio.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define DAYS_CRL 2 /* fewer left: warn; many lists live for a week only */

static void report_authorities(STACK_OF(X509) * authorities)
{
	char text[REPORT_NAME_SIZE], what[REPORT_NAME_SIZE + 32];

	for (int i = 0; i < sk_X509_num(authorities); i++) {
		X509 *x = sk_X509_value(authorities, i);

		snprintf(what, sizeof what, "authority: %s",
			 report_dn(X509_get_subject_name(x), text));
		report_dates(what, X509_get0_notBefore(x), X509_get0_notAfter(x), REPORT_DAYS,
			     FOUND_ERROR);
		if (X509_check_ca(x) == 0)
			report(FOUND_WARNING,
			       "authority: \"%s\" is none: it is not allowed to sign certificates "
			       "(basicConstraints)",
			       text);
	}
}

static X509 *author(const X509_CRL *crl, STACK_OF(X509) * authorities)
{
	for (int i = 0; i < sk_X509_num(authorities); i++) {
		X509 *x = sk_X509_value(authorities, i);
		if (X509_NAME_cmp(X509_get_subject_name(x), X509_CRL_get_issuer(crl)) == 0)
			return x;
	}
	return NULL;
}

static void report_crl(X509_CRL *crl, STACK_OF(X509) * authorities)
{
	char text[REPORT_NAME_SIZE], what[REPORT_NAME_SIZE + 64];
	X509 *by = author(crl, authorities);
	STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(crl); /* NULL if there is none */

	snprintf(what, sizeof what, "revocation list of %s, %d revoked",
		 report_dn(X509_CRL_get_issuer(crl), text),
		 revoked == NULL ? 0 : sk_X509_REVOKED_num(revoked));
	if (X509_CRL_get0_nextUpdate(crl) == NULL)
		report(FOUND_NOTE, "%s: has no end", what);
	else
		report_dates(what, X509_CRL_get0_lastUpdate(crl), X509_CRL_get0_nextUpdate(crl),
			     DAYS_CRL, FOUND_ERROR);
	if (by == NULL)
		report(FOUND_NOTE, "revocation list of \"%s\": no such authority in -A's file",
		       text);
	else if (X509_CRL_verify(crl, X509_get0_pubkey(by)) != 1)
		report(FOUND_ERROR, "revocation list of \"%s\": not signed by that authority's key",
		       text);
}

static STACK_OF(X509_CRL) * read_crls(const char *file)
{
	STACK_OF(X509_CRL) *all = sk_X509_CRL_new_null();
	BIO *bio = BIO_new_file(file, "r");
	X509_CRL *crl;

	while (bio != NULL && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, (void *)"")) != NULL)
		sk_X509_CRL_push(all, crl);
	BIO_free(bio);
	ERR_clear_error();
	return all;
}

/* With --crl every authority must have a list, or its clients are refused. */
static void report_missing_crls(STACK_OF(X509) * authorities, STACK_OF(X509_CRL) * crls)
{
	char text[REPORT_NAME_SIZE];

	for (int i = 0; i < sk_X509_num(authorities); i++) {
		X509 *x = sk_X509_value(authorities, i);
		bool has = false;

		for (int k = 0; k < sk_X509_CRL_num(crls); k++)
			has |= X509_NAME_cmp(X509_get_subject_name(x),
					     X509_CRL_get_issuer(sk_X509_CRL_value(crls, k))) == 0;
		if (!has)
			report(FOUND_ERROR,
			       "revocation list: none of \"%s\" in --crl's file: certificates that "
			       "it signed will be "
			       "refused",
			       report_dn(X509_get_subject_name(x), text));
	}
}

void tls_report_trust(const char *ca, const char *crl)
{
	STACK_OF(X509) *authorities = report_read_certificates(ca);

	report_authorities(authorities);
	if (crl != NULL) {
		STACK_OF(X509_CRL) *crls = read_crls(crl);

		for (int i = 0; i < sk_X509_CRL_num(crls); i++)
			report_crl(sk_X509_CRL_value(crls, i), authorities);
		report_missing_crls(authorities, crls);
		sk_X509_CRL_pop_free(crls, X509_CRL_free);
	}
	sk_X509_pop_free(authorities, X509_free);
	ERR_clear_error();
}
