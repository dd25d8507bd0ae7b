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

static const char *wanted; /* the server's name: there is one server per process */

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

/* Called by OpenSSL for each certificate and each error. Adds libpq's rule for addresses, and records why the server is refused. */
static int verify_server(int ok, X509_STORE_CTX *store)
{
	int error = X509_STORE_CTX_get_error(store);
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	char name[128];

	if (ok)
		return ok;
	if (error == X509_V_ERR_IP_ADDRESS_MISMATCH && names_address(leaf, wanted)) {
		X509_STORE_CTX_set_error(store, X509_V_OK);
		return 1;
	}
	if (error == X509_V_ERR_IP_ADDRESS_MISMATCH || error == X509_V_ERR_HOSTNAME_MISMATCH) {
		shown_name(leaf, name, sizeof name);
		fail(&peer_refusal, EX_UNAVAILABLE,
		     "the server's certificate is for \"%s\", not for \"%s\"", name, wanted);
	} else {
		fail(&peer_refusal, EX_UNAVAILABLE,
		     "the server's certificate cannot be verified: %s",
		     X509_verify_cert_error_string(error));
	}
	return 0;
}

/* OpenSSL checks the name while it verifies the certificate, before ours is sent. */
static bool set_name(SSL *ssl)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return is_address(wanted) ? X509_VERIFY_PARAM_set1_ip_asc(param, wanted) == 1
				  : X509_VERIFY_PARAM_set1_host(param, wanted, 0) == 1;
}

bool client_open(SSL *ssl, const struct options *o, struct error *e)
{
	wanted = server_name(o);
	if (o->ca != NULL && !set_trust(ssl, o, e))
		return false;
	if (o->sslmode == SSLMODE_REQUIRE)
		SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
	else
		SSL_set_verify(ssl, SSL_VERIFY_PEER, verify_server);
	if (SSL_set_alpn_protos(ssl, alpn_postgresql, ALPN_POSTGRESQL_LEN) != 0)
		return fail(e, EX_OSERR, "out of memory");
	/* RFC 6066, 3: no addresses in SNI. */
	if ((!is_address(wanted) && SSL_set_tlsext_host_name(ssl, wanted) != 1) ||
	    (o->sslmode == SSLMODE_VERIFY_FULL && !set_name(ssl)))
		return fail(e, EX_USAGE, "\"%s\" cannot be a server's name; see --servername",
			    wanted);
	return true;
}
