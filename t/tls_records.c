/* SPDX-License-Identifier: ISC
 *
 * t/tls_records.c - a client that sends TLS records which no TLS library would send.
 * It makes them itself, with the keys of its handshake.
 *
 *	tls_records [OPTION...] WORD...    descriptor 0 is a socket to a server
 *	  cert:FILE          present this certificate
 *	  direct             begin without an SSLRequest
 *	  tls12              use TLS 1.2 instead of TLS 1.3
 *	  hold               hold back the client's second flight. Records have the keys of the
 *	                     handshake (TLS 1.3), or those of the session (TLS 1.2).
 * Each word is printed when it is done, or "cut" if a write fails:
 *	  held               the next record of the flight that was held back
 *	  session            the whole flight has been sent: use the keys of the session
 *	  startup            a StartupMessage of alice
 *	  record:TYPE:HEX    one record of this type
 *	  pieces:TYPE:HEX    these bytes in records of one byte
 *	  long:TYPE:SIZE     one record of this size
 *	  clear:HEX          these bytes as they are
 *	  keyupdates         endless KeyUpdates, faster than OpenSSL processes them
 *	  data               endless small records of data
 *	  end                the end of our direction
 * At the end the program reads until the server closes the connection, and prints each alert as
 * "alert LEVEL NUMBER". It discards everything else.
 */
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HANDSHAKE = 22, DATA = 23, TAG = 16, BURST = 256, RECORD_MAX = 20000 };

static struct {
	const char *cert;
	bool direct, tls12, hold;
} options;
static SSL *ssl;
static BIO *from_server, *to_server;
static unsigned char handshake_secret[32], secret[32]; /* of RFC 8446, 7.1, for SHA-256 */
static unsigned char iv[12];
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

/* ---- keys ---- */

/* HKDF-Expand-Label of RFC 8446, 7.1, for at most 32 bytes: one HMAC. */
static void expand(const unsigned char *from, const char *label, unsigned char *out, size_t size)
{
	unsigned char info[40] = {0, (unsigned char)size}, full[32];
	int n = snprintf((char *)info + 3, sizeof info - 5, "tls13 %s", label);
	size_t len;

	info[2] = (unsigned char)n;
	info[n + 4] = 1; /* after an empty context */
	must(EVP_MAC_init(hmac, from, 32, NULL) == 1 &&
		 EVP_MAC_update(hmac, info, (size_t)n + 5) == 1 &&
		 EVP_MAC_final(hmac, full, &len, sizeof full) == 1,
	     "HMAC failed");
	memcpy(out, full, size);
}

static void use_key(const unsigned char *key, uint64_t first)
{
	must(EVP_EncryptInit_ex(gcm, NULL, NULL, key, NULL) == 1, "AES failed");
	sequence = first;
}

static void take_keys(const unsigned char *from)
{
	unsigned char key[16];

	expand(from, "key", key, sizeof key);
	expand(from, "iv", iv, sizeof iv);
	use_key(key, 0);
}

/* RFC 5246, 6.3: the keys of both sides, then four bytes of each side's nonces. */
static void take_keys_1_2(void)
{
	unsigned char master[48], seed[64], block[40];
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KDF_CTX *prf = EVP_KDF_CTX_new(kdf);

	SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof master);
	SSL_get_server_random(ssl, seed, 32);
	SSL_get_client_random(ssl, seed + 32, 32);
	OSSL_PARAM with[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA256"}, 0),
	    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, sizeof master),
	    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (char[]){"key expansion"}, 13),
	    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof seed),
	    OSSL_PARAM_construct_end()};
	must(prf != NULL && EVP_KDF_derive(prf, block, sizeof block, with) == 1, "PRF failed");
	EVP_KDF_CTX_free(prf);
	EVP_KDF_free(kdf);
	memcpy(iv, block + 32, 4);
	use_key(block, options.hold ? 0 : 1); /* after Finished */
}

static void keep_secrets(const SSL *of, const char *line)
{
	bool session = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;

	(void)of;
	if (!session && strncmp(line, "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", 32) != 0)
		return;
	for (size_t i = 0; i < sizeof secret; i++)
		must(sscanf(strrchr(line, ' ') + 1 + 2 * i, "%2hhx",
			    &(session ? secret : handshake_secret)[i]) == 1,
		     "odd key log");
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
	if (options.tls12)
		take_keys_1_2();
	else
		take_keys(options.hold ? handshake_secret : secret);
}

/* ---- records ---- */

/* Write one record to `out`; return its length. */
static size_t record(unsigned char *out, unsigned char type, const void *body, size_t size)
{
	size_t sealed = options.tls12 ? 8 + size + TAG : size + 1 + TAG;
	unsigned char *head = out, *p = out + 5, nonce[12], bound[13];
	int n;

	memcpy(head, (unsigned char[]){options.tls12 ? type : DATA, 3, 3}, 3);
	head[3] = (unsigned char)(sealed >> 8);
	head[4] = (unsigned char)sealed;
	memcpy(nonce, iv, sizeof nonce);
	for (unsigned i = 0; i < 8; i++) {
		bound[7 - i] = (unsigned char)(sequence >> 8 * i);
		nonce[11 - i] ^= bound[7 - i];
	}
	sequence++;
	memcpy(bound + 8, (unsigned char[]){type, 3, 3, (unsigned char)(size >> 8)}, 4);
	bound[12] = (unsigned char)size;
	if (options.tls12) { /* its iv ends with zeros */
		memcpy(p, nonce + 4, 8);
		p += 8;
	}
	must(EVP_EncryptInit_ex(gcm, NULL, NULL, NULL, nonce) == 1 &&
		 EVP_EncryptUpdate(gcm, NULL, &n, options.tls12 ? bound : head,
				   options.tls12 ? 13 : 5) == 1 &&
		 EVP_EncryptUpdate(gcm, p, &n, body, (int)size) == 1,
	     "AES failed");
	p += size;
	must(options.tls12 || EVP_EncryptUpdate(gcm, p++, &n, &type, 1) == 1, "AES failed");
	must(EVP_EncryptFinal_ex(gcm, p, &n) == 1 &&
		 EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_GCM_GET_TAG, TAG, p) == 1,
	     "AES failed");
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
	static unsigned char out[RECORD_MAX + 64];

	return send_all(out, record(out, type, body, size));
}

static size_t from_hex(const char *hex, unsigned char *out, size_t size)
{
	size_t n = 0;

	while (n < size && sscanf(hex + 2 * n, "%2hhx", &out[n]) == 1)
		n++;
	return n;
}

/* "TYPE:HEX". each: the size of the records; 0: one record. */
static bool send_typed(const char *text, size_t each)
{
	unsigned char body[RECORD_MAX];
	char *hex;
	unsigned char type = (unsigned char)strtoul(text, &hex, 10);
	size_t size = from_hex(hex + 1, body, sizeof body);

	if (each == 0 || size == 0)
		return send_record(type, body, size);
	for (size_t at = 0; at < size; at += each)
		if (!send_record(type, body + at, each))
			return false;
	return true;
}

static bool send_long(const char *text)
{
	static unsigned char body[RECORD_MAX];
	char *size;
	unsigned char type = (unsigned char)strtoul(text, &size, 10);
	size_t n = strtoul(size + 1, NULL, 10);

	must(n <= sizeof body, "too long");
	memset(body, 'x', n);
	return send_record(type, body, n);
}

static bool send_clear(const char *hex)
{
	static unsigned char bytes[RECORD_MAX];

	return send_all(bytes, from_hex(hex, bytes, sizeof bytes));
}

static bool send_held(void)
{
	unsigned char out[RECORD_MAX];
	int n = BIO_read(to_server, out, 5);

	must(n == 5 && BIO_read(to_server, out + 5, out[3] << 8 | out[4]) >= 0, "nothing is held");
	return send_all(out, (size_t)(5 + (out[3] << 8 | out[4])));
}

static size_t add_keyupdate(unsigned char *out)
{
	size_t n = record(out, HANDSHAKE, "\x18\0\0\1\0", 5);

	expand(secret, "traffic upd", secret, sizeof secret);
	take_keys(secret);
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

/* ---- the handshake, by OpenSSL over memory ---- */

static bool send_pending(void)
{
	unsigned char out[RECORD_MAX];
	int n;

	while ((n = BIO_read(to_server, out, sizeof out)) > 0)
		if (!send_all(out, (size_t)n))
			return false;
	return true;
}

static bool receive(void)
{
	unsigned char in[4096];
	ssize_t n = read(STDIN_FILENO, in, sizeof in);

	return n > 0 && BIO_write(from_server, in, (int)n) == n;
}

static void print_alert(const SSL *of, int where, int alert)
{
	(void)of;
	if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT)
		printf("alert %d %d\n", alert >> 8, alert & 255);
}

static void start_tls(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int version = options.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION;
	const char *cert = options.cert;

	must(ctx != NULL && SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") == 1 &&
		 SSL_CTX_set_cipher_list(ctx, "ECDHE+AES128+AESGCM") == 1 &&
		 SSL_CTX_set_min_proto_version(ctx, version) == 1 &&
		 SSL_CTX_set_max_proto_version(ctx, version) == 1,
	     "no TLS");
	SSL_CTX_set_keylog_callback(ctx, keep_secrets);
	SSL_CTX_set_info_callback(ctx, print_alert);
	must(cert == NULL || (SSL_CTX_use_certificate_file(ctx, cert, SSL_FILETYPE_PEM) == 1 &&
			      SSL_CTX_use_PrivateKey_file(ctx, cert, SSL_FILETYPE_PEM) == 1),
	     "no certificate");
	ssl = SSL_new(ctx);
	from_server = BIO_new(BIO_s_mem());
	to_server = BIO_new(BIO_s_mem());
	must(ssl != NULL && from_server != NULL && to_server != NULL, "no TLS");
	BIO_set_mem_eof_return(from_server, -1); /* more will come */
	SSL_set_bio(ssl, from_server, to_server);
	SSL_set_connect_state(ssl);
}

static void connect_tls(void)
{
	char answer;

	must(options.direct || (send_all((const unsigned char *)"\0\0\0\x08\x04\xd2\x16\x2f", 8) &&
				read(STDIN_FILENO, &answer, 1) == 1 && answer == 'S'),
	     "no S");
	start_tls();
	bool first = true;
	while (SSL_do_handshake(ssl) != 1 &&
	       (first || !options.hold || BIO_pending(to_server) == 0)) {
		must(send_pending() && receive(), "no handshake");
		first = false;
	}
	must(options.hold || send_pending(), "no handshake");
	set_up_crypto();
}

static bool obey(const char *word)
{
	static const char startup[] =
	    "\0\0\0\x14\0\3\0\0user\0alice\0"; /* and the literal's terminating NUL */

	if (strcmp(word, "startup") == 0)
		return send_record(DATA, startup, sizeof startup);
	if (strcmp(word, "held") == 0)
		return send_held();
	if (strcmp(word, "session") == 0) {
		if (options.tls12)
			sequence = 1;
		else
			take_keys(secret);
		return true;
	}
	if (strcmp(word, "end") == 0)
		return shutdown(STDIN_FILENO, SHUT_WR) == 0;
	if (strncmp(word, "record:", 7) == 0)
		return send_typed(word + 7, 0);
	if (strncmp(word, "pieces:", 7) == 0)
		return send_typed(word + 7, 1);
	if (strncmp(word, "long:", 5) == 0)
		return send_long(word + 5);
	if (strncmp(word, "clear:", 6) == 0)
		return send_clear(word + 6);
	bool data = strcmp(word, "data") == 0;
	must(data || strcmp(word, "keyupdates") == 0, "no such word");
	return flood(data ? add_data : add_keyupdate);
}

static bool take_option(const char *word)
{
	if (strncmp(word, "cert:", 5) == 0)
		options.cert = word + 5;
	else if (strcmp(word, "direct") == 0)
		options.direct = true;
	else if (strcmp(word, "tls12") == 0)
		options.tls12 = true;
	else if (strcmp(word, "hold") == 0)
		options.hold = true;
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	char discarded[4096];
	int at = 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	while (at < argc && take_option(argv[at]))
		at++;
	connect_tls();
	puts("connected");
	for (; at < argc; at++)
		puts(obey(argv[at]) ? argv[at] : "cut");
	while (receive())
		while (SSL_read(ssl, discarded, sizeof discarded) > 0)
			;
	return 0;
}
