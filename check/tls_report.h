/* SPDX-License-Identifier: ISC
 *
 * check/tls_report.h - between the files tls_report*.c, the part of --check that needs OpenSSL.
 */
#ifndef PGSSL_CHECK_TLS_REPORT_H
#define PGSSL_CHECK_TLS_REPORT_H

#include "check/report.h"
#include "tls/internal.h"

#define REPORT_NAME_SIZE 512
#define REPORT_DAYS      30 /* a certificate with fewer left is warned of */

/* A name as RFC 2253 writes it, which escapes what could drive a terminal; "(empty)". Returns `buf`. */
const char *report_dn(const X509_NAME *name, char buf[REPORT_NAME_SIZE]);

/* `bad` is what it comes to when the dates are wrong, `soon` how many days left are a warning. */
void report_dates(const char *what, const ASN1_TIME *from, const ASN1_TIME *until, int soon,
		  enum finding bad);

/* All certificates of a PEM file, for the caller to free; none if it cannot be read, which tls_open has told. */
STACK_OF(X509) * report_read_certificates(const char *file);

/* Report on the authorities in `ca` and the lists in `crl` (may be NULL). */
void tls_report_trust(const char *ca, const char *crl);

#endif
