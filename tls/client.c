/* SPDX-License-Identifier: ISC
 *
 * tls/client.c - client mode: SNI and ALPN, and the verification of the server (steps 3 and 7).
 *
 * The rules are libpq's (PostgreSQL's documentation, "SSL Support" of libpq; fe-secure-common.c). A
 * name is compared with the certificate's DNS names, or with its common name if it has none; a
 * wildcard stands for one label. An address is compared with the IP addresses, or with the common
 * name if there are none.
 */
#include "tls/internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/x509v3.h>

#include "net/address.h"

static const char *wanted; /* the server's name */

const char *tls_authorities(const struct options *o)
{
	static const char *const usual[] = {"/etc/ssl/certs/ca-certificates.crt",
					    "/etc/pki/tls/certs/ca-bundle.crt",
					    "/etc/ssl/cert.pem"};
	const char *file = getenv(X509_get_default_cert_file_env());

	if (!o->client || o->ca == NULL || strcmp(o->ca, "system") != 0)
		return o->ca;
	for (size_t i = 0; file == NULL && i < sizeof usual / sizeof usual[0]; i++)
		if (access(usual[i], R_OK) == 0)
			file = usual[i];
	return file != NULL ? file : X509_get_default_cert_file();
}

static bool is_address(const char *name)
{
	unsigned char binary[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, name, binary) == 1 || inet_pton(AF_INET6, name, binary) == 1;
}

static bool is_ip_name(int type, const ASN1_STRING *value, void *arg)
{
	(void)value, (void)arg;
	return type == GEN_IPADD || type == TLS_BAD_ADDRESS;
}

/* libpq also looks for an address in DNS names and in the common name. */
static bool has_address_as_name(X509 *cert, const char *address)
{
	unsigned subject = tls_each_alt_name(cert, is_ip_name, NULL)
			       ? X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
			       : X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT;

	return X509_check_host(cert, address, 0, subject | X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1;
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
 * adds libpq's rule for addresses.
 */
static int verify_server(int ok, X509_STORE_CTX *store)
{
	int error = X509_STORE_CTX_get_error(store);
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	char name[SHOWN_SIZE];

	if (ok)
		return ok;
	if (error == X509_V_ERR_IP_ADDRESS_MISMATCH && has_address_as_name(leaf, wanted)) {
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
static bool set_server_name(SSL *ssl)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return is_address(wanted) ? X509_VERIFY_PARAM_set1_ip_asc(param, wanted) == 1
				  : X509_VERIFY_PARAM_set1_host(param, wanted, 0) == 1;
}

bool tls_set_up_client(SSL *ssl, const struct options *o, struct error *e)
{
	static char host[256];

	address_host(o->connect, host, sizeof host);
	wanted = o->servername != NULL ? o->servername : host;
	if (o->sslmode == SSLMODE_REQUIRE)
		SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
	else
		SSL_set_verify(ssl, SSL_VERIFY_PEER, verify_server);
	if (SSL_set_alpn_protos(ssl, tls_alpn, TLS_ALPN_LEN) != 0)
		return fail(e, EX_OSERR, "out of memory");
	/* RFC 6066, 3: no addresses in SNI. */
	if ((!is_address(wanted) && SSL_set_tlsext_host_name(ssl, wanted) != 1) ||
	    (o->sslmode == SSLMODE_VERIFY_FULL && !set_server_name(ssl)))
		return fail(e, EX_USAGE, "\"%s\" cannot be a server's name; see --servername",
			    wanted);
	return true;
}
