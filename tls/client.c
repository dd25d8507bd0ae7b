/* SPDX-License-Identifier: ISC
 *
 * tls/client.c - client mode: whom to trust, which name to ask for, what to verify (steps 3 and 7).
 *
 * libpq's rules (PostgreSQL's documentation, "SSL Support" of libpq; fe-secure-common.c): a name is compared with the certificate's DNS names, or its
 * common name if it has none; a wildcard stands for one label (OpenSSL wants two more behind it); an address is compared with its IP addresses, or
 * with its common name if it has none.
 */
#include "tls/internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/x509v3.h>

#include "net/address.h"

static bool is_address(const char *name)
{
	unsigned char binary[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, name, binary) == 1 || inet_pton(AF_INET6, name, binary) == 1;
}

/* The system's authorities as one file: OpenSSL would look into a folder during the handshake, when no file can be opened any more. */
const char *tls_system_authorities(void)
{
	static const char *const usual[] = {"/etc/ssl/certs/ca-certificates.crt",
					    "/etc/pki/tls/certs/ca-bundle.crt",
					    "/etc/ssl/cert.pem"};
	const char *file = getenv(X509_get_default_cert_file_env());

	if (file != NULL)
		return file;
	for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
		if (access(usual[i], R_OK) == 0)
			return usual[i];
	return X509_get_default_cert_file();
}

static bool set_trust(SSL *ssl, const struct options *o, struct error *e)
{
	const char *ca = strcmp(o->ca, "system") == 0 ? tls_system_authorities() : o->ca;

	return trust_load(SSL_get_SSL_CTX(ssl), ca, o->crl, e);
}

/* --servername, or the host of -r. */
static const char *server_name(const struct options *o)
{
	static char host[256];

	if (o->servername != NULL)
		return o->servername;
	address_host(o->connect, host, sizeof host);
	return host;
}

bool client_open(SSL *ssl, const struct options *o, struct error *e)
{
	const char *name = server_name(o);

	if (o->ca != NULL && !set_trust(ssl, o, e))
		return false;
	SSL_set_verify(ssl, o->sslmode == SSLMODE_REQUIRE ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
		       NULL);
	if (SSL_set_alpn_protos(ssl, alpn_postgresql, ALPN_POSTGRESQL_LEN) != 0)
		return fail(e, EX_OSERR, "out of memory");
	/* RFC 6066, 3: no addresses in SNI. */
	if (!is_address(name) && SSL_set_tlsext_host_name(ssl, name) != 1)
		return fail(e, EX_USAGE, "\"%s\" cannot be a server's name; see --servername",
			    name);
	return true;
}

static bool has_addresses(const X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
		found |= sk_GENERAL_NAME_value(names, i)->type == GEN_IPADD;
	GENERAL_NAMES_free(names);
	return found;
}

/* An address that the certificate does not have as one may stand in its common name, unless it has others. Wildcards never stand for one. */
static bool names_address(X509 *cert, const char *address)
{
	unsigned subject = has_addresses(cert) ? X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
					       : X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT;

	return X509_check_ip_asc(cert, address, 0) == 1 ||
	       X509_check_host(cert, address, 0, subject | X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1;
}

/* The certificate's first DNS name, or its common name: a stranger's text, escaped. */
static void shown_name(const X509 *cert, char *buf, size_t size)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	const X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	const ASN1_STRING *name =
	    at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));

	for (int i = sk_GENERAL_NAME_num(names) - 1; i >= 0; i--)
		if (sk_GENERAL_NAME_value(names, i)->type == GEN_DNS)
			name = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), NULL);
	log_escape(buf, size, name == NULL ? "" : (const char *)ASN1_STRING_get0_data(name),
		   name == NULL ? 0 : (size_t)ASN1_STRING_length(name));
	GENERAL_NAMES_free(names);
}

bool client_check_name(SSL *ssl, const struct options *o, struct error *e)
{
	X509 *cert = SSL_get0_peer_certificate(ssl);
	const char *wanted = server_name(o);
	char name[128];

	if (cert == NULL)
		return fail(e, EX_UNAVAILABLE, "the server has no certificate");
	if (is_address(wanted)
		? names_address(cert, wanted)
		: X509_check_host(cert, wanted, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1)
		return true;
	shown_name(cert, name, sizeof name);
	return fail(e, EX_UNAVAILABLE, "the server's certificate is for \"%s\", not for \"%s\"",
		    name, wanted);
}
