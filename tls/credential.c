/* SPDX-License-Identifier: ISC
 *
 * tls/credential.c - certificate chains and private keys (step 3).
 *
 * A private key leaves no trace: the file is read in one go into a buffer that is wiped (OpenSSL's own *_file loaders leave the text in
 * freed memory), and OpenSSL's memory is wiped when it is freed.
 */
#include "tls/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "tls/passphrase.h"

#define FILE_MAX_SIZE (1024 * 1024)

#define SECURE_HEAP  (256 * 1024) /* OpenSSL's heap for private keys: a power of two */
#define SECURE_LEAST 32
#define SECURE_TEXT  (64 * 1024)

static bool wiping;

static void *wiping_malloc(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return malloc(size);
}

static void wiping_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	if (wiping && p != NULL)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static void *wiping_realloc(void *p, size_t size, const char *file, int line)
{
	size_t old = p == NULL ? 0 : malloc_usable_size(p);

	if (!wiping || size <= old)
		return realloc(p, size);
	void *bigger = malloc(size);
	if (bigger == NULL)
		return NULL;
	if (p != NULL)
		memcpy(bigger, p, old);
	wiping_free(p, file, line);
	return bigger;
}

void wiping_memory_begin(void)
{
	wiping = true;
}

void wiping_memory_install(void)
{
	if (CRYPTO_set_mem_functions(wiping_malloc, wiping_realloc, wiping_free) != 1)
		bug("OpenSSL allocated memory before it was told how");
	/* Locked, left out of dumps, between guard pages. Where locking is not to be had (RLIMIT_MEMLOCK) the rest still holds. */
	(void)CRYPTO_secure_malloc_init(SECURE_HEAP, SECURE_LEAST);
}

void wiping_memory_end(void)
{
	wiping = false;
}

const char *openssl_reason(const char *otherwise)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	return reason != NULL ? reason : otherwise;
}

void text_wipe(struct text *t)
{
	OPENSSL_secure_clear_free(t->bytes, t->len);
	t->bytes = NULL;
}

int text_open(const char *file, const char *cure, struct stat *st, struct error *e)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	if (fd < 0)
		fail(e, errno == EACCES ? EX_NOPERM : EX_NOINPUT, "could not open \"%s\": %s%s",
		     file, strerror(errno), errno == ENOENT ? cure : "");
	else
		fail(e, EX_NOINPUT, "\"%s\" is not a regular file", file);
	if (fd >= 0)
		close(fd);
	return -1;
}

bool text_read(struct text *t, const char *file, const char *cure, struct error *e)
{
	int fd = text_open(file, cure, &t->st, e);

	if (fd < 0)
		return false;
	bool fits = t->st.st_size < FILE_MAX_SIZE;
	t->len = fits ? (size_t)t->st.st_size : 0;
	/* Large files find no room in the secure heap; they are wiped all the same. */
	t->bytes =
	    t->len < SECURE_TEXT ? OPENSSL_secure_malloc(t->len + 1) : OPENSSL_malloc(t->len + 1);
	/* One read: the file may be being replaced. */
	ssize_t n = t->bytes == NULL ? -1 : read(fd, t->bytes, t->len);
	int error = errno;
	close(fd);
	if (fits && n >= 0) {
		t->len = (size_t)n;
		return true;
	}
	text_wipe(t);
	return fits ? fail(e, EX_NOINPUT, "could not read \"%s\": %s", file, strerror(error))
		    : fail(e, EX_CONFIG,
			   "\"%s\" has more than %d bytes: that is no certificate file", file,
			   FILE_MAX_SIZE);
}

/* Owner and mode, as PostgreSQL's own libpq asks of a private key (fe-secure-openssl.c, initialize_SSL). */
static bool check_owner(const struct stat *st, const char *file, struct error *e)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return fail(e, EX_NOPERM,
			    "private key file \"%s\" must be owned by the user that starts pgssl "
			    "or by root",
			    file);
	if ((st->st_mode & (st->st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO)) !=
	    0)
		return fail(e, EX_NOPERM,
			    "private key file \"%s\" has group or world access; it must have "
			    "permissions u=rw (0600) "
			    "or less if owned by the "
			    "user that starts pgssl, or u=rw,g=r (0640) or less if owned by root",
			    file);
	return true;
}

/* What OpenSSL's passphrase callback gets: without one it would ask the client, who is on descriptor 0. */
struct passphrase {
	const char *command;
	struct error *e;
	bool failed;
};

static int give_passphrase(char *buf, int size, int writing, void *arg)
{
	struct passphrase *p = arg;

	(void)writing;
	if (p->command == NULL) {
		p->failed = true;
		fail(
		    p->e, EX_CONFIG,
		    "it is encrypted: give --passphrase-command, or store it without a passphrase");
		return -1;
	}
	if (!passphrase_read(p->command, buf, (size_t)size, p->e)) {
		p->failed = true;
		return -1;
	}
	return (int)strlen(buf);
}

static bool parse_key(struct credential *c, const struct text *t, const char *file,
		      const char *command, struct error *e)
{
	struct error why = {.status = 0};
	struct passphrase passphrase = {.command = command, .e = &why};

	BIO *bio = BIO_new_mem_buf(t->bytes, (int)t->len);
	ERR_clear_error();
	c->key = PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, &passphrase);
	BIO_free(bio);
	if (c->key != NULL)
		return true;
	c->final = passphrase.failed ||
		   command != NULL; /* a passphrase command may be dear to run again */
	if (passphrase.failed)
		return fail(e, why.status, "could not load private key \"%s\": %s", file, why.text);
	if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE ||
	    memmem(t->bytes, t->len, "PRIVATE KEY-----", 16) == NULL)
		return fail(
		    e, EX_CONFIG,
		    "no private key in \"%s\": put it into the file, or name its file with --key",
		    file);
	return fail(e, EX_CONFIG, "could not load private key \"%s\": %s", file,
		    command != NULL ? "wrong passphrase, or a damaged file"
				    : openssl_reason("damaged file"));
}

static bool parse_certificates(struct credential *c, const struct text *t, const char *file,
			       struct error *e)
{
	BIO *bio = BIO_new_mem_buf(t->bytes, (int)t->len);
	X509 *x;

	ERR_clear_error();
	c->chain = sk_X509_new_null();
	/* The passphrase callback is never to be asked for a certificate: an empty passphrase does. */
	while ((x = PEM_read_bio_X509(bio, NULL, NULL, (void *)"")) != NULL) {
		if (c->leaf == NULL)
			c->leaf = x;
		else if (sk_X509_push(c->chain, x) == 0)
			break;
	}
	BIO_free(bio);
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return fail(e, EX_CONFIG, "could not load certificate file \"%s\": %s", file,
			    openssl_reason("damaged file"));
	if (c->leaf == NULL)
		return fail(e, EX_CONFIG, "no certificate in \"%s\"", file);
	ERR_clear_error();
	if (X509_get0_pubkey(c->leaf) == NULL)
		return fail(e, EX_CONFIG,
			    "OpenSSL cannot use the public key of the first certificate in \"%s\": "
			    "%s: it is damaged, or "
			    "of a type that this OpenSSL does not have; use another certificate",
			    file, openssl_reason("no reason given"));
	return true;
}

static bool load_key(struct credential *c, const struct text *t, const char *file,
		     const char *command, struct error *e)
{
	if (!parse_key(c, t, file, command, e))
		return false;
	c->final = !check_owner(&t->st, file, e);
	return !c->final;
}

static bool load_once(struct credential *c, const char *cert_file, const char *key_file,
		      const char *command, struct error *e)
{
	struct text cert, key;
	bool ok;

	if (!text_read(&cert, cert_file, " (\"make cert\" writes one for a start)", e))
		return false;
	ok = parse_certificates(c, &cert, cert_file, e);
	if (key_file == NULL)
		ok = ok && load_key(c, &cert, cert_file, command, e);
	else if (ok && (ok = text_read(&key, key_file, "", e))) {
		ok = load_key(c, &key, key_file, command, e);
		text_wipe(&key);
	}
	text_wipe(&cert);
	if (ok && X509_check_private_key(c->leaf, c->key) != 1)
		ok = fail(
		    e, EX_CONFIG,
		    "the private key in \"%s\" does not belong to the first certificate in \"%s\"",
		    key_file != NULL ? key_file : cert_file, cert_file);
	return ok;
}

bool credential_load(struct credential *c, const char *cert_file, const char *key_file,
		     const char *passphrase_command, struct error *e)
{
	for (int i = 1;; i++) {
		*c = (struct credential){.leaf = NULL};
		if (load_once(c, cert_file, key_file, passphrase_command, e))
			return true;
		bool final = c->final;
		credential_free(c);
		if (i == TEXT_TRIES || final)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = TEXT_PAUSE_NS}, NULL);
	}
}

bool credential_use(SSL *ssl, const struct credential *c, const char *file, struct error *e)
{
	ERR_clear_error();
	if (SSL_use_certificate(ssl, c->leaf) != 1 || SSL_use_PrivateKey(ssl, c->key) != 1)
		return fail(e, EX_CONFIG,
			    "OpenSSL does not accept the certificate in \"%s\" for TLS: %s (its "
			    "key is of type %s)",
			    file, openssl_reason("no reason given"),
			    EVP_PKEY_get0_type_name(c->key));
	for (int i = 0; i < sk_X509_num(c->chain); i++)
		if (SSL_add1_chain_cert(ssl, sk_X509_value(c->chain, i)) != 1)
			return fail(e, EX_CONFIG, "OpenSSL does not accept the chain in \"%s\": %s",
				    file, openssl_reason("no reason given"));
	return true;
}

void credential_free(struct credential *c)
{
	X509_free(c->leaf);
	sk_X509_pop_free(c->chain, X509_free);
	EVP_PKEY_free(c->key);
	*c = (struct credential){.leaf = NULL};
}
