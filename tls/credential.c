/* SPDX-License-Identifier: ISC
 *
 * tls/credential.c - certificate chains and private keys (step 3).
 *
 * A private key leaves no copy behind. The file is read into a buffer that is wiped (OpenSSL's own
 * *_file loaders leave the text in freed memory), and memory that OpenSSL frees is wiped.
 */
#include "tls/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#define SECURE_HEAP  (256 * 1024) /* OpenSSL's heap for private keys: a power of two */
#define SECURE_LEAST 32
#define SECURE_TEXT  (64 * 1024) /* a larger file is read into ordinary memory, and wiped too */

/* ---- memory ---- */

static bool wiping, starting, no_memory;

static void *noted(void *p, size_t size)
{
	if (p != NULL || size == 0)
		return p;
	no_memory = true;
	if (starting) /* OpenSSL would abort or hang */
		die(EX_OSERR, "out of memory");
	return NULL;
}

static void *noted_malloc(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	return size == 0 ? NULL : noted(malloc(size), size);
}

static void wiping_free(void *p, const char *file, int line)
{
	(void)file, (void)line;
	if (wiping && p != NULL)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static void *wiping_realloc(void *p, size_t size, const char *file, int line)
{
	size_t old = p == NULL ? 0 : malloc_usable_size(p);

	if (!wiping || size <= old)
		return noted(realloc(p, size), size);
	void *bigger = noted(malloc(size), size);
	if (bigger != NULL && p != NULL) {
		memcpy(bigger, p, old);
		wiping_free(p, file, line);
	}
	return bigger;
}

void tls_install_wiping(void)
{
	if (CRYPTO_set_mem_functions(noted_malloc, wiping_realloc, wiping_free) != 1)
		bug("OpenSSL allocated memory before it was told how");
	starting = true;
	/* Guard pages, not in core dumps, and locked unless RLIMIT_MEMLOCK forbids it. */
	(void)CRYPTO_secure_malloc_init(SECURE_HEAP, SECURE_LEAST);
}

void tls_started(void)
{
	starting = false;
}

bool tls_no_memory(void)
{
	bool yes = no_memory;

	no_memory = false;
	return yes;
}

void tls_wiping(bool on)
{
	wiping = on;
}

/* ---- files ---- */

/* A descriptor of a regular file, or -1. */
static int open_regular(const char *file, const char *cure, struct stat *st, struct error *e)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	bool found = fd >= 0 && fstat(fd, st) == 0;

	if (found && S_ISREG(st->st_mode))
		return fd;
	if (found)
		fail(e, EX_NOINPUT, "\"%s\" is not a regular file", file);
	else
		fail(e, errno == EACCES ? EX_NOPERM : EX_NOINPUT, "could not open \"%s\": %s%s",
		     file, strerror(errno), errno == ENOENT ? cure : "");
	if (fd >= 0)
		close(fd);
	return -1;
}

/* NULL, or why not. A part of a file may lack what it revokes. */
static const char *read_whole(int fd, char *bytes, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = read(fd, bytes + at, len - at);

		if (n <= 0)
			return n < 0 ? strerror(errno) : "it has become shorter meanwhile";
		at += (size_t)n;
	}
	return NULL;
}

bool tls_pem_file_read(struct tls_pem_file *f, const char *file, const char *cure, struct error *e)
{
	int fd = open_regular(file, cure, &f->st, e);

	if (fd < 0)
		return false;
	f->len = (size_t)f->st.st_size;
	f->bytes = f->len > INT_MAX       ? NULL
		   : f->len < SECURE_TEXT ? OPENSSL_secure_malloc(f->len + 1)
					  : OPENSSL_malloc(f->len + 1);
	const char *why = f->bytes != NULL   ? read_whole(fd, f->bytes, f->len)
			  : f->len > INT_MAX ? "it has more than 2 GiB" /* OpenSSL's limit */
					     : strerror(ENOMEM);
	close(fd);
	if (why == NULL)
		return true;
	tls_pem_file_wipe(f);
	return fail(e, EX_NOINPUT, "could not read \"%s\": %s", file, why);
}

void tls_pem_file_wipe(struct tls_pem_file *f)
{
	OPENSSL_secure_clear_free(f->bytes, f->len);
	f->bytes = NULL;
}

bool tls_pem_skips(const struct tls_pem_file *f)
{
	static const char begin[] = "BEGIN ", wide[] = "B\0E\0G\0I\0N", dashes[] = "-----";
	const char *p = f->bytes, *end = f->bytes + f->len;

	for (; (p = memmem(p, (size_t)(end - p), begin, sizeof begin - 1)) != NULL; p++) {
		const char *line = memrchr(f->bytes, '\n', (size_t)(p - f->bytes));
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		line = line == NULL ? f->bytes : line + 1;
		stop = stop == NULL ? end : stop;
		while ((unsigned char)stop[-1] <= ' ')
			stop--;
		/* OpenSSL takes a byte order mark. */
		if (line == f->bytes && p - line == 8 && memcmp(line, "\xef\xbb\xbf", 3) == 0)
			line += 3;
		/* A word processor may have put other dashes. */
		bool dash = p > line && (p[-1] == '-' || (unsigned char)p[-1] >= 0x80);
		if (*line == '#' || (!dash && stop[-1] != '-'))
			continue; /* a comment is not meant to be read */
		if (p - line != 5 || memcmp(line, dashes, 5) != 0 ||
		    memcmp(stop - 5, dashes, 5) != 0 ||
		    memchr(p, '-', (size_t)(stop - p)) != stop - 5)
			return true;
	}
	return memmem(f->bytes, f->len, wide, sizeof wide - 1) != NULL;
}

STACK_OF(X509) *
    tls_parse_certificates(const struct tls_pem_file *f, const char *file, struct error *e)
{
	BIO *bio = BIO_new_mem_buf(f->bytes, (int)f->len);
	STACK_OF(X509) *all = sk_X509_new_null();
	X509 *x;

	ERR_clear_error();
	/* An empty passphrase, so that OpenSSL does not prompt for one. */
	while ((x = PEM_read_bio_X509_AUX(bio, NULL, NULL, (void *)"")) != NULL)
		if (sk_X509_push(all, x) <= 0)
			break;
	BIO_free(bio);
	bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	if ((!end || sk_X509_num(all) <= 0) && tls_pem_skips(f))
		fail(e, EX_CONFIG, TLS_SKIPPED, file);
	else if (!end)
		fail(e, EX_CONFIG, "could not load certificate file \"%s\": %s", file,
		     tls_reason("damaged file"));
	else if (sk_X509_num(all) <= 0)
		fail(e, EX_CONFIG, "no certificate in \"%s\"", file);
	else
		return all;
	sk_X509_pop_free(all, X509_free);
	return NULL;
}

/* ---- certificate and private key ---- */

struct credential {
	STACK_OF(X509) * chain; /* without the leaf */
	X509 *leaf;
	EVP_PKEY *key;
	bool retry; /* it could not be loaded, perhaps because a file is being replaced */
};

/* Owner and mode as libpq demands for a private key (fe-secure-openssl.c, initialize_SSL). */
static bool check_key_owner(const struct stat *st, const char *file, struct error *e)
{
	mode_t others = st->st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;

	if (st->st_uid != 0 && st->st_uid != geteuid())
		return fail(e, EX_NOPERM,
			    "private key file \"%s\" must be owned by the user that starts pgssl "
			    "or by root",
			    file);
	if ((st->st_mode & others) != 0)
		return fail(e, EX_NOPERM,
			    "private key file \"%s\" has group or world access; it must have "
			    "permissions u=rw (0600) or less if owned by the user that starts "
			    "pgssl, or u=rw,g=r (0640) or less if owned by root",
			    file);
	return true;
}

/* The argument of OpenSSL's passphrase callback. Without one, OpenSSL would ask the client. */
struct passphrase {
	const char *command;
	struct error *e;
	bool asked, failed;
};

static int give_passphrase(char *buf, int size, int writing, void *arg)
{
	struct passphrase *p = arg;

	(void)writing;
	p->asked = true;
	if (p->command == NULL)
		p->failed = !fail(p->e, EX_CONFIG,
				  "it is encrypted: use --passphrase-command, or store it without "
				  "a passphrase");
	else
		p->failed = !tls_read_passphrase(p->command, buf, (size_t)size, p->e);
	return p->failed ? -1 : (int)strlen(buf);
}

/*
 * Add what the decoder does not say to OpenSSL's errors: whether the file has a private key at all,
 * whose kind goes to `kind`, and whether OpenSSL has the cipher of its old form.
 */
static bool examine_key(const struct tls_pem_file *f, char *kind, size_t size)
{
	BIO *bio = BIO_new_mem_buf(f->bytes, (int)f->len);
	char *name, *header;
	unsigned char *data;
	EVP_CIPHER_INFO info;
	bool found = false;
	long len;

	while (!found && PEM_read_bio(bio, &name, &header, &data, &len) == 1) {
		found = strstr(name, "PRIVATE KEY") != NULL;
		strlcpy(kind, name, size);
		if (found && PEM_get_EVP_CIPHER_INFO(header, &info) == 1 && info.cipher != NULL)
			EVP_CIPHER_free(
			    EVP_CIPHER_fetch(NULL, EVP_CIPHER_get0_name(info.cipher), NULL));
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_clear_free(data, (size_t)len);
	}
	BIO_free(bio);
	return found;
}

/* The first error after the decoder's own, which is "unsupported" whatever happened, or NULL; and
 * the name of an algorithm that OpenSSL does not have, or "". */
static const char *key_reason(char *algorithm, size_t size)
{
	static const char label[] = "Algorithm (";
	const char *data, *reason = NULL;
	unsigned long error;
	int flags;

	*algorithm = '\0';
	while ((error = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
		const char *at = (flags & ERR_TXT_STRING) != 0 ? strstr(data, label) : NULL;
		if (at != NULL)
			snprintf(algorithm, size, "%.*s", (int)strcspn(at + sizeof label - 1, " )"),
				 at + sizeof label - 1);
		if (reason == NULL && ERR_GET_LIB(error) != ERR_LIB_OSSL_DECODER)
			reason = ERR_reason_error_string(error);
	}
	return reason;
}

static bool refuse_key(const struct tls_pem_file *f, const char *file, bool asked, struct error *e)
{
	char kind[64] = "", algorithm[64];
	bool found = examine_key(f, kind, sizeof kind);
	bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	const char *reason = key_reason(algorithm, sizeof algorithm);

	if (!found && tls_pem_skips(f))
		return fail(e, EX_CONFIG, TLS_SKIPPED, file);
	if (!found && end)
		return fail(
		    e, EX_CONFIG,
		    "no private key in \"%s\": put it into the file, or name its file with --key",
		    file);
	if (algorithm[0] != '\0')
		return fail(e, EX_CONFIG,
			    "could not load private key \"%s\": unsupported: this OpenSSL has no "
			    "algorithm %s%s",
			    file, algorithm,
			    asked ? " without its legacy provider (see openssl.cnf); encrypt the "
				    "key with another cipher (openssl pkey -aes256)"
				  : "");
	return asked ? fail(e, EX_CONFIG,
			    "could not load private key \"%s\": wrong passphrase, or damaged "
			    "file",
			    file)
		     : fail(e, EX_CONFIG, "could not load private key \"%s\": %s (%s)", file,
			    reason != NULL ? reason : "unsupported", kind);
}

static bool load_key(struct credential *c, const struct tls_pem_file *f, const char *file,
		     const char *command, struct error *e)
{
	struct error why = {.status = 0};
	struct passphrase passphrase = {.command = command, .e = &why};
	BIO *bio = BIO_new_mem_buf(f->bytes, (int)f->len);

	ERR_clear_error();
	c->key = PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, &passphrase);
	BIO_free(bio);
	/* The passphrase command may be too expensive to run again. */
	c->retry = c->key == NULL ? !passphrase.asked : check_key_owner(&f->st, file, e);
	if (c->key != NULL)
		return c->retry;
	if (passphrase.failed)
		return fail(e, why.status, "could not load private key \"%s\": %s", file, why.text);
	return refuse_key(f, file, passphrase.asked, e);
}

static bool load_chain(struct credential *c, const struct tls_pem_file *f, const char *file,
		       struct error *e)
{
	c->chain = tls_parse_certificates(f, file, e);
	if (c->chain == NULL)
		return false;
	c->leaf = sk_X509_shift(c->chain);
	ERR_clear_error();
	return X509_get0_pubkey(c->leaf) != NULL ||
	       fail(e, EX_CONFIG,
		    "OpenSSL cannot use the public key of the first certificate in \"%s\": %s: it "
		    "is damaged, or of a type that this OpenSSL does not have; use another "
		    "certificate",
		    file, tls_reason("no reason given"));
}

static bool load_files(struct credential *c, const char *cert_file, const char *key_file,
		       const char *command, struct error *e)
{
	struct tls_pem_file cert, key;

	if (!tls_pem_file_read(&cert, cert_file,
			       " (\"make cert\" creates a self-signed certificate)", e))
		return false;
	bool ok = load_chain(c, &cert, cert_file, e);
	if (ok && key_file == NULL)
		ok = load_key(c, &cert, cert_file, command, e);
	tls_pem_file_wipe(&cert);
	if (ok && key_file != NULL && (ok = tls_pem_file_read(&key, key_file, "", e))) {
		ok = load_key(c, &key, key_file, command, e);
		tls_pem_file_wipe(&key);
	}
	if (ok && X509_check_private_key(c->leaf, c->key) != 1)
		ok = fail(
		    e, EX_CONFIG,
		    "the private key in \"%s\" does not belong to the first certificate in \"%s\"",
		    key_file != NULL ? key_file : cert_file, cert_file);
	return ok;
}

/* The SSL object keeps one certificate per type of key; the last argument forbids replacing it. */
static bool use_credential(SSL *ssl, const struct credential *c, const struct options *o,
			   const char *file, struct error *e)
{
	const char *type = EVP_PKEY_get0_type_name(c->key);
	/* Without a chain, OpenSSL looks for one in -A. */
	STACK_OF(X509) *chain = sk_X509_num(c->chain) > 0 ? c->chain : NULL;

	ERR_clear_error();
	if (SSL_use_cert_and_key(ssl, c->leaf, c->key, chain, 0) == 1)
		return true;
	if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_NOT_REPLACING_CERTIFICATE)
		return fail(e, EX_CONFIG,
			    "\"%s\" and \"%s\" both have %s keys: two certificates must have "
			    "different types of keys, for instance RSA and EC",
			    o->cert[0], file, type);
	return fail(e, EX_CONFIG,
		    "OpenSSL does not accept the certificate in \"%s\" for TLS: %s (its key is of "
		    "type %s)",
		    file, tls_reason("no reason given"), type);
}

bool tls_load_certificate(SSL *ssl, const struct options *o, int which, bool *retry,
			  struct error *e)
{
	struct credential c = {.retry = true};
	const char *file = o->cert[which];
	bool loaded = load_files(&c, file, which == 0 ? o->key : NULL, o->passphrase_command, e);

	*retry = c.retry && !loaded;
	bool ok = loaded && use_credential(ssl, &c, o, file, e);
	X509_free(c.leaf);
	sk_X509_pop_free(c.chain, X509_free);
	EVP_PKEY_free(c.key);
	return ok;
}
