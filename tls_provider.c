/* SPDX-License-Identifier: ISC
 *
 * tls_provider.c - fewer algorithms to set up (step 3).
 *
 * When OpenSSL looks for one cipher or decoder it makes objects of all that a provider has, 125 ciphers and 58 decoders: a quarter of all instructions up to the
 * end of the handshake, and 200 KiB. It tries them all, too, when it decodes a key. So it gets a provider of ours that hands out the default provider's own functions,
 * just not all of them (the way of OpenSSL's test/filterprov.c). No algorithm is ours.
 */
#include "tls_internal.h"

#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

#define MOST 64 /* algorithms of a kind, and the end of the list */

/* All forward-secret AEAD ciphers of TLS (-C takes others, and then all are there), and what OpenSSL's random generator may be told to use by openssl.cnf. */
static const char *const ciphers[] = {"AES-128-GCM",  "AES-256-GCM",  "AES-128-CCM", "AES-256-CCM", "ChaCha20-Poly1305",
				      "ARIA-128-GCM", "ARIA-256-GCM", "AES-128-CTR", "AES-192-CTR", "AES-256-CTR",
				      "AES-128-ECB",  "AES-192-ECB",  "AES-256-ECB", NULL};

/* Keys that certificates can have; ML-DSA from OpenSSL 3.5 on. */
static const char *const decoders[] = {"DER", "RSA",       "RSA-PSS",   "EC",        "ED25519", "ED448",
				       "DSA", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87", NULL};

/*
 * What they are decoded from: PEM, and of DER what a PEM file of certificates and keys, and a certificate itself, contain. OpenSSL 3.0 still has an older reader that
 * would make up for a missing form of a private key; later ones need not.
 */
static const char *const forms[] = {"input=pem",
				    "structure=SubjectPublicKeyInfo",
				    "structure=PrivateKeyInfo",
				    "structure=EncryptedPrivateKeyInfo",
				    "structure=type-specific",
				    NULL};

static struct choice {
	int operation;
	const char *const *names, *const *properties;
	OSSL_ALGORITHM algorithms[MOST];
} choices[] = {
    {.operation = OSSL_OP_CIPHER, .names = ciphers},
    {.operation = OSSL_OP_DECODER, .names = decoders, .properties = forms},
};

static OSSL_PROVIDER *all; /* the default provider */

/* Is the first of these names, which colons part, in the list? */
static bool is_listed(const char *names, const char *const *list)
{
	size_t len = strcspn(names, ":");

	for (; *list != NULL; list++)
		if (strlen(*list) == len && strncmp(names, *list, len) == 0)
			return true;
	return false;
}

static bool has_one(const char *definition, const char *const *properties)
{
	for (; properties != NULL && *properties != NULL; properties++)
		if (strstr(definition, *properties) != NULL)
			return true;
	return properties == NULL;
}

static void choose(struct choice *c, const OSSL_ALGORITHM *from)
{
	for (size_t n = 0; from->algorithm_names != NULL && n < MOST - 1; from++)
		if (is_listed(from->algorithm_names, c->names) && has_one(from->property_definition, c->properties))
			c->algorithms[n++] = *from;
}

static const OSSL_ALGORITHM *query(void *provctx, int operation, int *no_cache)
{
	const OSSL_ALGORITHM *found = OSSL_PROVIDER_query_operation(all, operation, no_cache);

	(void)provctx;
	for (size_t i = 0; i < sizeof choices / sizeof *choices && found != NULL; i++) {
		struct choice *c = &choices[i];
		if (c->operation != operation)
			continue;
		if (c->algorithms[0].algorithm_names == NULL)
			choose(c, found);
		return c->algorithms[0].algorithm_names != NULL ? c->algorithms : found;
	}
	return found;
}

/* Groups of TLS. */
static int capabilities(void *provctx, const char *name, OSSL_CALLBACK *callback, void *arg)
{
	(void)provctx;
	return OSSL_PROVIDER_get_capabilities(all, name, callback, arg);
}

static int init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **provctx)
{
	static const OSSL_DISPATCH functions[] = {
	    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
	    {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
	    {0, NULL},
	};

	(void)handle;
	(void)in;
	*out = functions;
	*provctx = OSSL_PROVIDER_get0_provider_ctx(all);
	return 1;
}

static int note_one(OSSL_PROVIDER *provider, void *any)
{
	(void)provider;
	*(bool *)any = true;
	return 1;
}

void provider_narrow(void)
{
	bool configured = false;

	all = OSSL_PROVIDER_load(NULL, "default");
	/* Whatever was fetched from a provider keeps it whole when it is no longer active: this one stays for as long as the process. */
	if (all == NULL)
		return;
	bool kept = EVP_RAND_fetch(NULL, "SEED-SRC", NULL) != NULL;
	OSSL_PROVIDER_unload(all);
	ERR_clear_error();
	if (OSSL_PROVIDER_do_all(NULL, note_one, &configured) == 1 && configured)
		return; /* openssl.cnf activates providers: what it says counts */
	if (!kept || OSSL_PROVIDER_add_builtin(NULL, "pgssl", init) != 1 || OSSL_PROVIDER_load(NULL, "pgssl") == NULL)
		(void)OSSL_PROVIDER_load(NULL, "default");
}
