/* SPDX-License-Identifier: ISC
 *
 * tls/names.c - texts for people: OpenSSL's reasons, and the names in a certificate.
 */
#include "tls/internal.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

const char *tls_reason(const char *otherwise)
{
	unsigned long error = ERR_peek_error();
	const char *reason = ERR_SYSTEM_ERROR(error) ? strerror(ERR_GET_REASON(error))
						     : ERR_reason_error_string(error);

	return reason != NULL ? reason : otherwise;
}

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

struct name_list {
	char *text;
	size_t size;
	int bad_length;
};

static bool append_name(int type, const ASN1_STRING *value, void *arg)
{
	struct name_list *list = arg;
	const char *label = type == GEN_DNS ? "DNS:" : type == GEN_URI ? "URI:" : "email:";
	const char *bytes = (const char *)ASN1_STRING_get0_data(value);
	int len = ASN1_STRING_length(value);
	char text[256];

	if (type == TLS_BAD_ADDRESS) {
		list->bad_length = len;
		return false;
	}
	if (type == GEN_IPADD) {
		label = "IP:";
		inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, text, sizeof text);
	} else {
		log_escape(text, sizeof text, bytes, (size_t)len);
	}
	strlcat(list->text, list->text[0] != '\0' ? ", " : "", list->size);
	strlcat(list->text, label, list->size);
	strlcat(list->text, text, list->size);
	return false;
}

int tls_write_alt_names(const X509 *x, char *buf, size_t size)
{
	struct name_list list = {buf, size, 0};

	*buf = '\0';
	tls_each_alt_name(x, append_name, &list);
	return list.bad_length;
}
