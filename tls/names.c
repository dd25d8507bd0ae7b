/* SPDX-License-Identifier: ISC
 *
 * tls/names.c - the names in a certificate.
 */
#include "tls/internal.h"

#include <stdio.h>

#include <openssl/x509v3.h>

bool tls_write_name(const X509_NAME *name, char *buf, size_t size)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;

	*buf = '\0';
	if (bio == NULL)
		return false;
	bool ok = X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0;
	long len = BIO_get_mem_data(bio, &text);
	snprintf(buf, size, "%.*s", (int)len, len > 0 ? text : "");
	BIO_free(bio);
	return ok && len >= 0 && (size_t)len < size;
}

const ASN1_STRING *tls_common_name(const X509 *x)
{
	const X509_NAME *subject = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

	return at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
}

bool tls_each_alt_name(const X509 *x, tls_alt_name *each, void *arg)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
		int type;
		const ASN1_STRING *value =
		    GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);

		if (type != GEN_DNS && type != GEN_URI && type != GEN_EMAIL && type != GEN_IPADD)
			continue; /* not strings */
		int len = ASN1_STRING_length(value);
		found = each(type == GEN_IPADD && len != 4 && len != 16 ? TLS_BAD_ADDRESS : type,
			     value, arg);
	}
	GENERAL_NAMES_free(names);
	return found;
}
