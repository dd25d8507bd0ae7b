/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/names.c - fuzz target: the names in a peer's certificate, which it chose itself.
 *
 * The input is the name of the wanted server, a NUL, the length of the subject in a byte, the
 * subject (DER of a Name) and the subject alternative names (DER of GeneralNames). The names that a
 * user may be compared with must be exactly those that a plain reading finds; what is written for
 * the log must be printable; and what client mode adds to OpenSSL's rules must be libpq's.
 *
 * sabotage: s/memchr(text, '.0', (size_t)len) == NULL/true/ tls/peer.c
 * sabotage: s/ASN1_STRING_to_UTF8(&text, s) == len/ASN1_STRING_to_UTF8(\&text, s) >= 0/ tls/peer.c
 * sabotage: s/type != V_ASN1_UTF8STRING .. /type != V_ASN1_BMPSTRING \&\& type != V_ASN1_UTF8STRING \&\& / tls/peer.c
 * sabotage: s/i < count; i++)/i < count - 1; i++)/ tls/peer.c
 * sabotage: s/log_escape(text, sizeof text, bytes, (size_t)len);/snprintf(text, sizeof text, "%.*s", len, bytes);/ tls/names.c
 * sabotage: s/strncasecmp(pattern + 1, rest, strlen(rest)) == 0/strncasecmp(pattern + 1, rest, 2) == 0/ tls/client.c
 * sabotage: s/ .. !tls_each_alt_name(cert, is_dns_name, NULL) ../ \&\&/ tls/client.c
 */
#include "tls/internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "fuzz.h"

#define NAME_MAX_LEN 1024
#define NAMES        64

const unsigned char tls_alpn[] = "\012postgresql";

X509 *__wrap_SSL_get0_peer_certificate(const SSL *ssl);
long __wrap_SSL_get_verify_result(const SSL *ssl);

static X509 *cert;
static STACK_OF(GENERAL_NAME) * alt_names;

X509 *__wrap_SSL_get0_peer_certificate(const SSL *ssl)
{
	(void)ssl;
	return cert;
}

long __wrap_SSL_get_verify_result(const SSL *ssl)
{
	(void)ssl;
	return X509_V_OK;
}

/* RFC 3629, 4. Returns the length of the character at `s`, 0 if it is not valid. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
	size_t n = s[0] < 0x80   ? 1
		   : s[0] < 0xc2 ? 0
		   : s[0] < 0xe0 ? 2
		   : s[0] < 0xf0 ? 3
		   : s[0] < 0xf5 ? 4
				 : 0;

	if (n == 0 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	bool low = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
	bool high = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
	return low || high ? 0 : n;
}

/* Does everyone read this string in the same way? */
static bool is_unambiguous(const ASN1_STRING *s)
{
	const unsigned char *bytes = ASN1_STRING_get0_data(s);
	size_t len = (size_t)ASN1_STRING_length(s), n;
	int type = ASN1_STRING_type(s);

	if (len == 0 || len > NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < len; i += n) {
		n = utf8_length(bytes + i, len - i);
		if (n == 0 || bytes[i] == '\0' || (n > 1 && type != V_ASN1_UTF8STRING))
			return false;
	}
	return type == V_ASN1_UTF8STRING || type == V_ASN1_PRINTABLESTRING ||
	       type == V_ASN1_IA5STRING;
}

/* What tls_peer_has_name gave to its caller. */
struct names {
	size_t count;
	char text[NAMES][NAME_MAX_LEN + 1];
};

static bool collect(const char *name, void *arg)
{
	struct names *n = arg;

	CHECK(strlen(name) <= NAME_MAX_LEN);
	if (n->count < NAMES)
		strcpy(n->text[n->count++], name);
	return false;
}

static void expect(struct names *n, const ASN1_STRING *s)
{
	char name[NAME_MAX_LEN + 1];

	if (!is_unambiguous(s))
		return;
	memcpy(name, ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
	name[ASN1_STRING_length(s)] = '\0';
	(void)collect(name, n);
}

static const ASN1_STRING *part(const X509_NAME *subject, int i)
{
	return X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i));
}

static int part_type(const X509_NAME *subject, int i)
{
	return OBJ_obj2nid(X509_NAME_ENTRY_get_object(X509_NAME_get_entry(subject, i)));
}

static void expect_names(struct names *want, enum clientname which)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	int count = X509_NAME_entry_count(subject);
	char text[NAME_MAX_LEN + 2];
	bool good = count > 0;

	for (int i = 0; i < count && which == CLIENTNAME_CN; i++)
		if (part_type(subject, i) == NID_commonName) {
			expect(want, part(subject, i));
			return;
		}
	for (int i = 0; i < count; i++)
		good = good && is_unambiguous(part(subject, i));
	if (which == CLIENTNAME_DN && good && tls_write_name(subject, text, sizeof text) &&
	    strlen(text) <= NAME_MAX_LEN)
		(void)collect(text, want);
	for (int i = 0; which == CLIENTNAME_SAN && i < sk_GENERAL_NAME_num(alt_names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(alt_names, i);
		if (g->type == GEN_DNS || g->type == GEN_URI || g->type == GEN_EMAIL)
			expect(want, g->d.ia5);
	}
}

static void test_client_names(const struct tls *t)
{
	static struct names is, want;

	for (unsigned which = CLIENTNAME_CN; which <= CLIENTNAME_SAN; which++) {
		is.count = want.count = 0;
		CHECK(!tls_peer_has_name(t, (enum clientname)which, collect, &is));
		expect_names(&want, (enum clientname)which);
		CHECK(is.count == want.count);
		for (size_t i = 0; i < is.count; i++)
			CHECK(strcmp(is.text[i], want.text[i]) == 0);
	}
}

static bool is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

/* What is written for people, in a small and in a large buffer. */
static void test_texts(const struct tls *t)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	char small[40], large[4096];
	struct tls_peer peer;

	bool whole = tls_write_name(subject, large, sizeof large);
	bool fits = tls_write_name(subject, small, sizeof small);
	CHECK(is_printable(large) && strncmp(small, large, strlen(small)) == 0);
	CHECK(!whole || fits == (strlen(large) < sizeof small));
	CHECK(tls_peer(t, &peer) && is_printable(peer.subject) && is_printable(peer.serial));
	int wrong = tls_write_alt_names(cert, large, sizeof large);
	CHECK(wrong != 4 && wrong != 16 && is_printable(large));
	CHECK(strpbrk(large, "\"\\") == NULL || strstr(large, "\\x") != NULL);
	for (const char *blank = large; (blank = strchr(blank, ' ')) != NULL; blank++)
		CHECK(blank[-1] == ',');
	tls_write_alt_names(cert, small, sizeof small);
	CHECK(strncmp(small, large, strlen(small)) == 0);
}

/* ---- libpq: fe-secure-common.c, fe-secure-openssl.c ---- */

static bool wildcard_match(const char *pattern, const char *string)
{
	size_t lenpat = strlen(pattern), lenstr = strlen(string);

	return lenpat >= 3 && pattern[0] == '*' && pattern[1] == '.' && lenpat <= lenstr &&
	       strcasecmp(pattern + 1, string + lenstr - lenpat + 1) == 0 &&
	       strchr(string, '.') >= string + lenstr - lenpat;
}

static bool name_matches(const ASN1_STRING *s, const char *host)
{
	char name[NAME_MAX_LEN + 1];
	size_t len = (size_t)ASN1_STRING_length(s);

	if (len > NAME_MAX_LEN || memchr(ASN1_STRING_get0_data(s), '\0', len) != NULL)
		return false;
	memcpy(name, ASN1_STRING_get0_data(s), len);
	name[len] = '\0';
	return strcasecmp(name, host) == 0 || wildcard_match(name, host);
}

static bool address_matches(const ASN1_STRING *s, const char *host)
{
	unsigned char bytes[16];
	int len = ASN1_STRING_length(s);
	int family = len == 4 ? AF_INET : AF_INET6;

	return (len == 4 || len == 16) && inet_pton(family, host, bytes) == 1 &&
	       memcmp(bytes, ASN1_STRING_get0_data(s), (size_t)len) == 0;
}

/* A common name in another encoding; OpenSSL looks at all of them, libpq at the first. */
static bool common_name_matches(const X509_NAME *subject, const char *host)
{
	for (int i = 0; i < X509_NAME_entry_count(subject); i++) {
		unsigned char *text = NULL;

		if (part_type(subject, i) != NID_commonName)
			continue;
		int len = ASN1_STRING_to_UTF8(&text, part(subject, i));
		bool good = len >= 0 && (size_t)len == strlen(host) &&
			    strncasecmp((const char *)text, host, (size_t)len) == 0;
		OPENSSL_free(text);
		if (good || name_matches(part(subject, i), host))
			return true;
	}
	return false;
}

static bool libpq_accepts(const char *host, bool number)
{
	bool check_cn = true;

	for (int i = 0; i < sk_GENERAL_NAME_num(alt_names); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(alt_names, i);
		if (g->type == (number ? GEN_IPADD : GEN_DNS))
			check_cn = false;
		if ((g->type == GEN_DNS && name_matches(g->d.dNSName, host)) ||
		    (g->type == GEN_IPADD && address_matches(g->d.iPAddress, host)))
			return true;
	}
	return check_cn && common_name_matches(X509_get_subject_name(cert), host);
}

/* OpenSSL found no match, and asks tls/client.c. */
static void test_server_name(SSL *ssl, char *host)
{
	static X509_STORE_CTX *store;
	struct options o = {
	    .connect = "db:5432", .sslmode = SSLMODE_VERIFY_FULL, .servername = host};
	struct error e;
	struct in6_addr address;

	if (store == NULL)
		store = X509_STORE_CTX_new();
	if (!tls_set_up_client(ssl, &o, &e))
		return;
	bool number = X509_VERIFY_PARAM_get0_host(SSL_get0_param(ssl), 0) == NULL ||
		      inet_pton(AF_INET, host, &address) == 1 ||
		      inet_pton(AF_INET6, host, &address) == 1;
	size_t len = strlen(host);
	if (len > 1 && host[len - 1] == '.')
		host[len - 1] = '\0';
	X509_STORE_CTX_set_cert(store, cert);
	X509_STORE_CTX_set_error(store, number ? X509_V_ERR_IP_ADDRESS_MISMATCH
					       : X509_V_ERR_HOSTNAME_MISMATCH);
	bool taken = SSL_get_verify_callback(ssl)(0, store) == 1;
	char *usual = X509_VERIFY_PARAM_get1_ip_asc(SSL_get0_param(ssl));
	CHECK(!taken || libpq_accepts(host, number) ||
	      (number && usual != NULL && libpq_accepts(usual, true)));
	OPENSSL_free(usual);
	X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_HAS_EXPIRED);
	CHECK(SSL_get_verify_callback(ssl)(0, store) == 0); /* no other error is forgiven */
}

/* A certificate with these names; NULL if they are malformed. */
static X509 *make_certificate(const unsigned char *subject, size_t len, const unsigned char *alt,
			      size_t alt_len)
{
	X509 *x = X509_new();
	X509_NAME *name = d2i_X509_NAME(NULL, &subject, (long)len);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	ASN1_OCTET_STRING_set(value, alt, (int)alt_len);
	X509_EXTENSION *extension =
	    X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 0, value);
	bool good = (name == NULL || X509_set_subject_name(x, name) == 1) &&
		    (alt_len == 0 || X509_add_ext(x, extension, -1) == 1);

	X509_NAME_free(name);
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
	if (good)
		return x;
	X509_free(x);
	return NULL;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static SSL_CTX *ctx;
	static struct tls t;
	struct input in = {data, size};
	char host[260];

	if (ctx == NULL) {
		ctx = SSL_CTX_new(TLS_client_method());
		t.ssl = SSL_new(ctx);
	}
	input_string(&in, host, sizeof host);
	size_t len = input_byte(&in);
	if (len > in.left)
		len = in.left;
	cert = make_certificate(in.at, len, in.at + len, in.left - len);
	if (cert == NULL)
		return 0;
	alt_names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	test_client_names(&t);
	test_texts(&t);
	if (host[0] != '\0')
		test_server_name(t.ssl, host);
	GENERAL_NAMES_free(alt_names);
	X509_free(cert);
	ERR_clear_error();
	return 0;
}
