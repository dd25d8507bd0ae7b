/* SPDX-License-Identifier: ISC
 *
 * tls/trust.c - authorities and revocation lists (step 3).
 *
 * The checks are PostgreSQL's (be-secure-openssl.c): the same purpose and revocation flags. With
 * these OpenSSL ignores some kinds of lists if there is another valid list of the issuer, so those
 * kinds are refused.
 */
#include "tls/internal.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define CHAIN_MAX 10 /* intermediates that a client may send; OpenSSL would take 100 */

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

/* ---- files and directories ---- */

/* A name as openssl-rehash(1) gives it, with `r` before the number if it is a list. */
static bool is_hash_name(const char *name, const char *r)
{
	size_t n = strspn(name, "0123456789abcdef");

	if (n != 8 || name[n] != '.' || strncmp(name + n + 1, r, strlen(r)) != 0)
		return false;
	name += n + 1 + strlen(r);
	return *name != '\0' && name[strspn(name, "0123456789")] == '\0';
}

static int is_certificate_name(const struct dirent *d)
{
	return is_hash_name(d->d_name, "");
}

static int is_list_name(const struct dirent *d)
{
	return is_hash_name(d->d_name, "r");
}

/* Add the next one in `bio`. False at the end, or if it is damaged. */
static bool add_certificate(X509_STORE *store, BIO *bio)
{
	X509 *x = PEM_read_bio_X509_AUX(bio, NULL, NULL, (void *)"");
	bool added = x != NULL && X509_STORE_add_cert(store, x) == 1;

	X509_free(x);
	return added;
}

static bool add_list(X509_STORE *store, BIO *bio)
{
	X509_CRL *crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, (void *)"");
	bool added = crl != NULL && X509_STORE_add_crl(store, crl) == 1;

	X509_CRL_free(crl);
	return added;
}

static const struct kind {
	const char *name, *hash;
	bool (*add)(X509_STORE *store, BIO *bio);
	int (*is_name)(const struct dirent *);
} certificates = {"certificate", "HASH.0", add_certificate, is_certificate_name},
  lists = {"revocation list", "HASH.r0", add_list, is_list_name};

bool tls_file_is_whole(const char *file, struct error *e)
{
	struct tls_pem_file f;

	if (!tls_pem_file_read(&f, file, "", e))
		return false;
	bool whole = !tls_pem_skips(&f) || fail(e, EX_CONFIG, TLS_SKIPPED, file);
	tls_pem_file_wipe(&f);
	return whole;
}

/* A list that OpenSSL would skip may be the one that revokes. */
static bool load_text(X509_STORE *store, const struct kind *kind, const struct tls_pem_file *f,
		      const char *file, struct error *e)
{
	BIO *bio = BIO_new_mem_buf(f->bytes, (int)f->len);
	unsigned n = 0;

	ERR_clear_error();
	while (kind->add(store, bio))
		n++;
	BIO_free(bio);
	bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	bool loaded = end && n > 0;
	if ((!loaded || kind == &lists) && tls_pem_skips(f))
		return fail(e, EX_CONFIG, TLS_SKIPPED, file);
	if (end && !loaded)
		return fail(e, EX_CONFIG, "no %s in \"%s\"", kind->name, file);
	if (!loaded)
		return fail(e, EX_CONFIG, "could not load %s file \"%s\": %s", kind->name, file,
			    tls_reason("damaged file"));
	ERR_clear_error();
	return true;
}

/* OpenSSL's own loaders take a failing read(2) between two lists for the end of the file. */
static bool load_file(X509_STORE *store, const struct kind *kind, const char *file, struct error *e)
{
	struct tls_pem_file f;

	if (!tls_pem_file_read(&f, file, "", e))
		return false;
	bool loaded = load_text(store, kind, &f, file, e);
	tls_pem_file_wipe(&f);
	return loaded;
}

/* Not OpenSSL's own look-up in directories: that opens files during the handshake. */
static bool load_directory(X509_STORE *store, const struct kind *kind, const char *path,
			   struct error *e)
{
	char file[PATH_MAX];
	struct dirent **names;
	int n = scandir(path, &names, kind->is_name, alphasort);
	bool ok = n > 0;

	if (n < 0)
		return fail(e, EX_NOINPUT, "could not read directory \"%s\": %s", path,
			    strerror(errno));
	if (n == 0)
		fail(e, EX_NOINPUT,
		     "no %s in directory \"%s\": file names must have the form %s; "
		     "run openssl rehash",
		     kind->name, path, kind->hash);
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
		ok = ok && load_file(store, kind, file, e);
		free(names[i]);
	}
	free(names);
	return ok;
}

static bool load(X509_STORE *store, const struct kind *kind, const char *path, struct error *e)
{
	struct stat st;
	bool directory = stat(path, &st) == 0 && S_ISDIR(st.st_mode);

	return directory ? load_directory(store, kind, path, e) : load_file(store, kind, path, e);
}

/* ---- revocation lists that OpenSSL sometimes ignores ---- */

static const char *limited_scope(const X509_CRL *crl)
{
	int critical;
	ISSUING_DIST_POINT *idp =
	    X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point, &critical, NULL);
	const char *why = NULL;

	if (idp == NULL)
		return critical == -1 ? NULL : "has an issuingDistributionPoint that is damaged";
	if (idp->indirectCRL > 0)
		why = "is an indirect list, with entries of other authorities";
	else if (idp->onlysomereasons != NULL)
		why = "is limited to some reasons for revocation";
	else if (idp->onlyattr > 0)
		why = "is limited to attribute certificates";
	else if (idp->onlyuser > 0 && idp->onlyCA > 0)
		why = "has an issuingDistributionPoint that excludes every certificate";
	ISSUING_DIST_POINT_free(idp);
	return why;
}

/* NULL if OpenSSL uses the list, whatever other lists there are. */
static const char *unusable(const X509_CRL *crl)
{
	if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
		return "is a delta list: use full lists only";
	for (int i = 0; i < X509_CRL_get_ext_count(crl); i++) {
		X509_EXTENSION *x = (X509_EXTENSION *)X509_CRL_get_ext(crl, i);
		int nid = OBJ_obj2nid(X509_EXTENSION_get_object(x));
		if (X509_EXTENSION_get_critical(x) && nid != NID_issuing_distribution_point &&
		    nid != NID_authority_key_identifier)
			return "has a critical extension that OpenSSL does not support";
	}
	return limited_scope(crl);
}

/* OpenSSL 3.0 has only the old function, 4.0 only the new one. */
#if OPENSSL_VERSION_PREREQ(3, 3)
#define get_objects(store) X509_STORE_get1_objects(store)
#define free_objects(all)  sk_X509_OBJECT_pop_free((all), X509_OBJECT_free)
#else
#define get_objects(store) X509_STORE_get0_objects(store)
#define free_objects(all)  (void)(all)
#endif

STACK_OF(X509_CRL) * tls_lists(X509_STORE *store)
{
	STACK_OF(X509_OBJECT) *all = get_objects(store);
	STACK_OF(X509_CRL) *found = sk_X509_CRL_new_null();
	bool ok = all != NULL && found != NULL;

	for (int i = 0; i < sk_X509_OBJECT_num(all) && ok; i++) {
		const X509_CRL *crl = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(all, i));
		ok = crl == NULL || sk_X509_CRL_push(found, (X509_CRL *)crl) != 0;
	}
	free_objects(all);
	if (!ok)
		sk_X509_CRL_free(found);
	return ok ? found : NULL;
}

static bool check_lists(X509_STORE *store, const char *path, struct error *e)
{
	STACK_OF(X509_CRL) *all = tls_lists(store);
	char issuer[256];
	bool ok = all != NULL || fail(e, EX_OSERR, "out of memory");

	for (int i = 0; i < sk_X509_CRL_num(all) && ok; i++) {
		const X509_CRL *crl = sk_X509_CRL_value(all, i);
		const char *why = unusable(crl);
		tls_write_name(X509_CRL_get_issuer(crl), issuer, sizeof issuer);
		ok = why == NULL || fail(e, EX_CONFIG, "\"%s\": a revocation list of \"%s\" %s",
					 path, issuer, why);
	}
	sk_X509_CRL_free(all);
	return ok;
}

/* ---- the trust of a context ---- */

bool tls_load_store(X509_STORE *store, const struct options *o, struct error *e)
{
	const char *path = tls_authorities(o);

	if (path != NULL && !load(store, &certificates, path, e))
		return false;
	if (o->crl == NULL)
		return true;
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return load(store, &lists, o->crl, e) && check_lists(store, o->crl, e);
}

static int compare_names(const X509_NAME *const *a, const X509_NAME *const *b)
{
	return X509_NAME_cmp(*a, *b);
}

size_t tls_names_size(const STACK_OF(X509_NAME) * names)
{
	size_t size = 0;

	for (int i = 0; i < sk_X509_NAME_num(names); i++)
		size += 2 + (size_t)i2d_X509_NAME(sk_X509_NAME_value(names, i), NULL);
	return size;
}

/* Name the authorities; a certificate that is sent must verify. */
static bool request_client_cert(SSL_CTX *ctx, const struct options *o, struct error *e)
{
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new(compare_names);
	STACK_OF(X509) *all = X509_STORE_get1_all_certs(SSL_CTX_get_cert_store(ctx));

	SSL_CTX_set_client_CA_list(ctx, names);
	for (int i = 0; i < sk_X509_num(all); i++) {
		X509 *x = sk_X509_value(all, i);
		if (sk_X509_NAME_find(names, (X509_NAME *)X509_get_subject_name(x)) < 0)
			SSL_CTX_add_client_CA(ctx, x);
	}
	sk_X509_pop_free(all, X509_free);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, tls_verify_client);
	SSL_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT); /* OpenSSL's default for a server */
	SSL_CTX_set_verify_depth(ctx, CHAIN_MAX);
	size_t size = tls_names_size(names);
	return size <= TLS_NAMES_MAX ||
	       fail(e, EX_CONFIG,
		    "the names of the %d authorities in \"%s\" have %zu bytes, but TLS allows "
		    "only %d: remove some authorities",
		    sk_X509_NAME_num(names), o->ca, size, TLS_NAMES_MAX);
}

bool tls_load_trust(SSL_CTX *ctx, const struct options *o, struct error *e)
{
	return tls_load_store(SSL_CTX_get_cert_store(ctx), o, e) &&
	       (o->ca == NULL || o->client || request_client_cert(ctx, o, e));
}
