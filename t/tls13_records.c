/* SPDX-License-Identifier: ISC
 *
 * t/tls13_records.c - a client that sends TLS 1.3 records which no TLS library would send.
 * It makes them itself, with the keys of its handshake.
 *
 *	tls13_records WORD...           descriptor 0 is a socket to pgssl; prints each word
 *	  cert:FILE                     present this certificate (must be the first word)
 *	  startup                       a StartupMessage of alice
 *	  handshake:HEX                 one handshake record of these bytes
 *	  keyupdates                    endless KeyUpdates, faster than OpenSSL processes them
 *	  data                          endless small records of data
 * A write that fails is printed as "cut". At the end the program reads until pgssl closes the
 * connection, and discards what it reads.
 */
#include <openssl/core_names.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HANDSHAKE = 22, DATA = 23, TAG = 16, BURST = 256 };

static unsigned char secret[32], iv[12]; /* client_application_traffic_secret_N, for SHA-256 */
static uint64_t sequence;
static EVP_CIPHER_CTX *gcm;
static EVP_MAC_CTX *hmac;

static void must(bool good, const char *what)
{
	if (good)
		return;
	puts(what);
	exit(1);
}

/* HKDF-Expand-Label of RFC 8446, 7.1, for at most 32 bytes: one HMAC. */
static void expand(const char *label, unsigned char *out, size_t size)
{
	unsigned char info[40] = {0, (unsigned char)size}, full[32];
	int n = snprintf((char *)info + 3, sizeof info - 5, "tls13 %s", label);
	size_t len;

	info[2] = (unsigned char)n;
	info[n + 4] = 1; /* after an empty context */
	must(EVP_MAC_init(hmac, secret, sizeof secret, NULL) == 1 &&
		 EVP_MAC_update(hmac, info, (size_t)n + 5) == 1 &&
		 EVP_MAC_final(hmac, full, &len, sizeof full) == 1,
	     "HMAC failed");
	memcpy(out, full, size);
}

static void take_keys(void)
{
	unsigned char key[16];

	expand("key", key, sizeof key);
	expand("iv", iv, sizeof iv);
	must(EVP_EncryptInit_ex(gcm, NULL, NULL, key, NULL) == 1, "AES failed");
	sequence = 0;
}

static void keep_secret(const SSL *ssl, const char *line)
{
	(void)ssl;
	if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0)
		for (size_t i = 0; i < sizeof secret; i++)
			must(sscanf(strrchr(line, ' ') + 1 + 2 * i, "%2hhx", &secret[i]) == 1,
			     "odd key log");
}

/* Write one record to `out`; return its length. */
static size_t record(unsigned char *out, unsigned char type, const void *body, size_t size)
{
	size_t sealed = size + 1 + TAG;
	unsigned char head[5] = {DATA, 3, 3, (unsigned char)(sealed >> 8), (unsigned char)sealed},
		      nonce[12];
	int n;

	memcpy(nonce, iv, sizeof nonce);
	for (unsigned i = 0; i < 8; i++)
		nonce[11 - i] ^= (unsigned char)(sequence >> 8 * i);
	sequence++;
	memcpy(out, head, sizeof head);
	bool good = EVP_EncryptInit_ex(gcm, NULL, NULL, NULL, nonce) == 1 &&
		    EVP_EncryptUpdate(gcm, NULL, &n, head, sizeof head) == 1 &&
		    EVP_EncryptUpdate(gcm, out + 5, &n, body, (int)size) == 1 &&
		    EVP_EncryptUpdate(gcm, out + 5 + size, &n, &type, 1) == 1 &&
		    EVP_EncryptFinal_ex(gcm, out + 6 + size, &n) == 1 &&
		    EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_GCM_GET_TAG, TAG, out + 6 + size) == 1;
	must(good, "AES failed");
	return 5 + sealed;
}

static bool send_all(const unsigned char *bytes, size_t size)
{
	for (ssize_t n; size > 0; bytes += n, size -= (size_t)n)
		if ((n = write(STDIN_FILENO, bytes, size)) <= 0)
			return false;
	return true;
}

static bool send_record(unsigned char type, const void *body, size_t size)
{
	unsigned char out[256];

	return send_all(out, record(out, type, body, size));
}

static bool send_handshake(const char *hex)
{
	unsigned char body[64];
	size_t n = 0;

	while (n < sizeof body && sscanf(hex + 2 * n, "%2hhx", &body[n]) == 1)
		n++;
	return send_record(HANDSHAKE, body, n);
}

static size_t add_keyupdate(unsigned char *out)
{
	size_t n = record(out, HANDSHAKE, "\x18\0\0\1\0", 5);

	expand("traffic upd", secret, sizeof secret);
	take_keys();
	return n;
}

static size_t add_data(unsigned char *out)
{
	return record(out, DATA, "a meaningless SQL query", 23);
}

static bool flood(size_t (*add)(unsigned char *))
{
	unsigned char out[BURST * 64];
	size_t len;

	do {
		len = 0;
		for (unsigned i = 0; i < BURST; i++)
			len += add(out + len);
	} while (send_all(out, len));
	return false;
}

static void set_up_crypto(void)
{
	OSSL_PARAM sha256[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
	    OSSL_PARAM_construct_end()};

	gcm = EVP_CIPHER_CTX_new();
	hmac = EVP_MAC_CTX_new(EVP_MAC_fetch(NULL, "HMAC", NULL));
	must(gcm != NULL && hmac != NULL && EVP_MAC_CTX_set_params(hmac, sha256) == 1 &&
		 EVP_EncryptInit_ex(gcm, EVP_aes_128_gcm(), NULL, NULL, NULL) == 1,
	     "no cryptography");
}

static void connect_tls(const char *cert)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char answer;

	must(ctx != NULL && SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") == 1,
	     "no TLS 1.3");
	SSL_CTX_set_keylog_callback(ctx, keep_secret);
	must(cert == NULL || (SSL_CTX_use_certificate_file(ctx, cert, SSL_FILETYPE_PEM) == 1 &&
			      SSL_CTX_use_PrivateKey_file(ctx, cert, SSL_FILETYPE_PEM) == 1),
	     "no certificate");
	SSL *ssl = SSL_new(ctx);
	must(send_all((const unsigned char *)"\0\0\0\x08\x04\xd2\x16\x2f", 8) &&
		 read(STDIN_FILENO, &answer, 1) == 1 && answer == 'S',
	     "no S");
	must(ssl != NULL && SSL_set_fd(ssl, STDIN_FILENO) == 1 && SSL_connect(ssl) == 1,
	     "no handshake");
	set_up_crypto();
	take_keys();
}

static bool obey(const char *word)
{
	static const char startup[] =
	    "\0\0\0\x14\0\3\0\0user\0alice\0"; /* and the literal's terminating NUL */

	if (strcmp(word, "startup") == 0)
		return send_record(DATA, startup, sizeof startup);
	if (strncmp(word, "handshake:", 10) == 0)
		return send_handshake(word + 10);
	bool data = strcmp(word, "data") == 0;
	must(data || strcmp(word, "keyupdates") == 0, "no such word");
	return flood(data ? add_data : add_keyupdate);
}

int main(int argc, char **argv)
{
	char thrown_away[4096];
	int at = 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	const char *cert = argc > 1 && strncmp(argv[1], "cert:", 5) == 0 ? argv[at++] + 5 : NULL;
	connect_tls(cert);
	puts("connected");
	for (; at < argc; at++)
		puts(obey(argv[at]) ? argv[at] : "cut");
	while (read(STDIN_FILENO, thrown_away, sizeof thrown_away) > 0)
		;
	return 0;
}
