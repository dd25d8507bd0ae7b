/* SPDX-License-Identifier: ISC
 *
 * tls/client.c - client mode: SNI and ALPN, and the verification of the server (steps 3 and 7).
 *
 * The rules are libpq's (PostgreSQL's documentation, "SSL Support" of libpq; fe-secure-common.c). A
 * name is compared with the certificate's DNS names, or with its common name if it has none; a
 * wildcard matches one label. An address is compared with the IP addresses, or with the common
 * name if there are none.
 */
#include "tls/internal.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include <openssl/x509v3.h>

#include "net/address.h"

static char wanted[258]; /* the server's name, in lower case and without a dot at its end */
static char number[64];  /* if that is an address: its usual form. Else "" */

static bool is_ip_name(int type, const ASN1_STRING *value, void *arg)
{
	(void)value, (void)arg;
	return type == GEN_IPADD || type == TLS_BAD_ADDRESS;
}

/* libpq also looks for an address in DNS names and in the common name, as it was typed. */
static bool has_address_as_name(X509 *cert)
{
	unsigned flags =
	    X509_CHECK_FLAG_NO_WILDCARDS |
	    (tls_each_alt_name(cert, is_ip_name, NULL) ? X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
						       : X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT);

	return X509_check_host(cert, number, 0, flags, NULL) == 1 ||
	       X509_check_host(cert, wanted, 0, flags, NULL) == 1 ||
	       X509_check_ip_asc(cert, wanted, 0) == 1; /* IPv4-mapped */
}

static bool is_dns_name(int type, const ASN1_STRING *value, void *arg)
{
	(void)value, (void)arg;
	return type == GEN_DNS;
}

/* Does "*.example.org" match the name? Like OpenSSL, require two labels after the star. */
static bool fits_wildcard(int type, const ASN1_STRING *value, void *arg)
{
	const char *pattern = (const char *)ASN1_STRING_get0_data(value);
	const char *rest = strchr(wanted, '.');
	int len = ASN1_STRING_length(value);

	(void)arg;
	return type == GEN_DNS && rest != NULL && rest > wanted && strchr(rest + 1, '.') != NULL &&
	       len == (int)strlen(rest) + 1 && pattern[0] == '*' &&
	       strncasecmp(pattern + 1, rest, strlen(rest)) == 0;
}

/* OpenSSL's wildcards know no underscores, libpq's do. */
static bool has_name_with_underscore(const X509 *cert)
{
	const ASN1_STRING *cn = tls_common_name(cert);

	if (strchr(wanted, '_') == NULL)
		return false;
	return tls_each_alt_name(cert, fits_wildcard, NULL) ||
	       (cn != NULL && !tls_each_alt_name(cert, is_dns_name, NULL) &&
		fits_wildcard(GEN_DNS, cn, NULL));
}

#define SHOWN_SIZE 128

static bool show_dns_name(int type, const ASN1_STRING *value, void *arg)
{
	if (type == GEN_DNS)
		log_escape(arg, SHOWN_SIZE, (const char *)ASN1_STRING_get0_data(value),
			   (size_t)ASN1_STRING_length(value));
	return type == GEN_DNS;
}

/* The certificate's first DNS name, or its common name, escaped. */
static void show_name(const X509 *cert, char buf[SHOWN_SIZE])
{
	const ASN1_STRING *cn = tls_common_name(cert);

	*buf = '\0';
	if (!tls_each_alt_name(cert, show_dns_name, buf) && cn != NULL)
		show_dns_name(GEN_DNS, cn, buf);
}

/*
 * OpenSSL calls this for each certificate and each error. Records why the server is refused, and
 * adds libpq's rules for addresses and underscores.
 */
static int verify_server(int ok, X509_STORE_CTX *store)
{
	int error = X509_STORE_CTX_get_error(store);
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	char name[SHOWN_SIZE];

	if (ok)
		return ok;
	if ((error == X509_V_ERR_IP_ADDRESS_MISMATCH && has_address_as_name(leaf)) ||
	    (error == X509_V_ERR_HOSTNAME_MISMATCH && has_name_with_underscore(leaf))) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	if (error == X509_V_ERR_IP_ADDRESS_MISMATCH || error == X509_V_ERR_HOSTNAME_MISMATCH) {
		show_name(leaf, name);
		fail(&tls_refusal, EX_UNAVAILABLE,
		     "the server's certificate is for \"%s\", not for \"%s\"", name, wanted);
	} else {
		fail(&tls_refusal, EX_UNAVAILABLE,
		     "the server's certificate cannot be verified: %s",
		     X509_verify_cert_error_string(error));
	}
	return 0;
}

/* OpenSSL checks the name while it verifies the certificate, before ours is sent. */
static bool verify_name(SSL *ssl)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return number[0] != '\0' ? X509_VERIFY_PARAM_set1_ip_asc(param, number) == 1
				 : X509_VERIFY_PARAM_set1_host(param, wanted, 0) == 1;
}

/* RFC 6066, 3: SNI has no address, and no dot at the end of a name. */
static bool set_server_name(SSL *ssl, const char *name)
{
	if (strlen(name) >= sizeof wanted)
		return false;
	address_bare_name(name, wanted, sizeof wanted);
	if (wanted[0] != '\0' && wanted[strlen(wanted) - 1] == '.')
		return false; /* OpenSSL 3 would take it */
	for (char *c = wanted; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	if (address_is_number(wanted, number, sizeof number))
		return true;
	return errno != ENOMEM && SSL_set_tlsext_host_name(ssl, wanted) == 1;
}

bool tls_set_up_client(SSL *ssl, const struct options *o, struct error *e)
{
	char host[256];

	address_host(o->connect, host, sizeof host);
	const char *name = o->servername != NULL ? o->servername : host;
	if (o->sslmode == SSLMODE_REQUIRE)
		SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
	else
		SSL_set_verify(ssl, SSL_VERIFY_PEER, verify_server);
	if (SSL_set_alpn_protos(ssl, tls_alpn, TLS_ALPN_LEN) != 0)
		return fail(e, EX_OSERR, "out of memory");
	errno = 0;
	if (!set_server_name(ssl, name) || (o->sslmode == SSLMODE_VERIFY_FULL && !verify_name(ssl)))
		return errno == ENOMEM
			   ? fail(e, EX_OSERR, "out of memory")
			   : fail(e, EX_USAGE,
				  "\"%s\" is not a valid server name; see --servername", name);
	return true;
}
