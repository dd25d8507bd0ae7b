/* SPDX-License-Identifier: ISC
 *
 * tls/settings.c - protocol versions, ciphers, groups, ALPN, and what is never allowed (step 3).
 *
 * Distributions and operators set their policy in openssl.cnf, which comes first. What pgssl
 * promises narrows it, and an option overrules both.
 *
 * A server offers finite-field Diffie-Hellman (ffdhe groups, DHE ciphers) only if openssl.cnf or an
 * option names it. A client that asks for ffdhe8192 with a prepared ClientHello costs a server a
 * hundred times as much as one that asks for X25519, and itself nothing (D(HE)at attack).
 */
#include "tls/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/objects.h>
#include <openssl/rand.h>

/* ---- what openssl.cnf names ---- */

static struct {
	bool ffdhe, dhe;
} site;

/* OpenSSL 3.5 takes a group with a minus sign out of the list. */
static bool names_ffdhe(const char *groups)
{
	const char *at = groups;

	while ((at = strcasestr(at, "ffdhe")) != NULL && at > groups && at[-1] == '-')
		at++;
	return at != NULL;
}

/* Has this list of ciphers one of DHE, as a name (DHE-RSA-...) or a keyword (kDHE, EDH)? */
static bool names_dhe(const char *ciphers)
{
	char *copy = strdup(ciphers), *rest = copy, *word, *at;
	bool found = false;

	while (!found && (word = strsep(&rest, ":, ;")) != NULL)
		found = strchr("!-+", word[0]) == NULL &&
			(strstr(word, "EDH") != NULL ||
			 ((at = strstr(word, "DHE")) != NULL && (at == word || at[-1] != 'C')));
	free(copy);
	return found;
}

static const char *conf_string(const CONF *conf, const char *section, const char *name)
{
	return section == NULL ? NULL : NCONF_get_string(conf, section, name);
}

/* Look at a command of the section. As for OpenSSL, a prefix up to a dot does not count. */
static void read_site_command(const CONF_VALUE *command)
{
	const char *dot = strchr(command->name, '.');
	const char *name = dot != NULL ? dot + 1 : command->name;

	if (strcasecmp(name, "CipherString") == 0)
		site.dhe = names_dhe(command->value);
	else /* Groups, Curves, ECDHParameters */
		site.ffdhe |= names_ffdhe(command->value);
}

/* Can anything in the file matter? To parse it costs 3 % of a connection. */
static bool may_name_finite_fields(const char *file)
{
	FILE *f = fopen(file, "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	while (!found && f != NULL && getline(&line, &size, f) > 0) {
		const char *p = line + strspn(line, " \t");
		found = *p != '#' && (strncasecmp(p, ".include", 8) == 0 ||
				      strcasestr(p, "dhe") != NULL || strstr(p, "EDH") != NULL);
	}
	if (f != NULL)
		fclose(f);
	free(line);
	return found;
}

/* OpenSSL applies these commands to each SSL_CTX, and does not tell which. */
static void read_site_commands(const char *file)
{
	CONF *conf = NCONF_new(NULL);
	STACK_OF(CONF_VALUE) *commands = NULL;

	if (conf != NULL && NCONF_load(conf, file, NULL) == 1) {
		const char *section = conf_string(conf, "default", "openssl_conf");
		section = conf_string(conf, section, "ssl_conf");
		section = conf_string(conf, section, "system_default");
		commands = section == NULL ? NULL : NCONF_get_section(conf, section);
	}
	for (int i = 0; i < sk_CONF_VALUE_num(commands); i++)
		read_site_command(sk_CONF_VALUE_value(commands, i));
	NCONF_free(conf);
	ERR_clear_error();
}

void tls_read_site_policy(void)
{
	char *file = CONF_get1_default_config_file();

	if (file != NULL && may_name_finite_fields(file))
		read_site_commands(file);
	OPENSSL_free(file);
}

/* ---- versions, ciphers and groups ---- */

/* TLS 1.2 at least, unless openssl.cnf asks for more; an option overrules it. */
static bool set_protocols(SSL_CTX *ctx, const struct options *o, struct error *e)
{
	static const int numbers[] = {
	    [PROTOCOL_TLS_1_2] = TLS1_2_VERSION, [PROTOCOL_TLS_1_3] = TLS1_3_VERSION};
	int min = numbers[o->min_protocol], max = numbers[o->max_protocol];

	if (min == 0 && SSL_CTX_get_min_proto_version(ctx) < TLS1_2_VERSION)
		min = TLS1_2_VERSION;
	if (min != 0 && SSL_CTX_set_min_proto_version(ctx, min) != 1)
		return fail(e, EX_CONFIG, "OpenSSL does not accept --min-protocol: %s",
			    tls_reason("no reason given"));
	if (max != 0 && SSL_CTX_set_max_proto_version(ctx, max) != 1)
		return fail(e, EX_CONFIG, "OpenSSL does not accept --max-protocol: %s",
			    tls_reason("no reason given"));
	min = (int)SSL_CTX_get_min_proto_version(ctx);
	max = (int)SSL_CTX_get_max_proto_version(ctx);
	if (max != 0 && max < min)
		return fail(e, EX_USAGE,
			    "the highest TLS version allowed is below the lowest (see "
			    "--min-protocol, --max-protocol and MinProtocol in openssl.cnf)");
	return true;
}

static bool is_forward_secret_aead(const SSL_CIPHER *cipher, bool dhe)
{
	int exchange = SSL_CIPHER_get_kx_nid(cipher);

	return SSL_CIPHER_is_aead(cipher) == 1 &&
	       (exchange == NID_kx_ecdhe || (dhe && exchange == NID_kx_dhe));
}

/* Of what openssl.cnf allows for TLS 1.2 keep the forward-secret AEAD ciphers. */
static bool set_default_ciphers(SSL_CTX *ctx, bool dhe, struct error *e)
{
	STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(ctx);
	char list[4096] = "";

	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(all, i);
		if (!is_forward_secret_aead(cipher, dhe))
			continue;
		strlcat(list, ":", sizeof list);
		strlcat(list, SSL_CIPHER_get_name(cipher), sizeof list);
	}
	if (SSL_CTX_set_cipher_list(ctx, list + (list[0] == ':')) != 1)
		return fail(e, EX_CONFIG,
			    "openssl.cnf allows no forward-secret AEAD cipher for TLS 1.2: change "
			    "its CipherString, or use -C");
	return true;
}

typedef int security_callback(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid,
			      void *other, void *ex);
static security_callback *default_security;
static bool dhe_ciphers;

/* OpenSSL asks before it supports, shares or uses a group. RFC 7919: the ffdhe groups are 01xx.
 * From 4.0 on DHE ciphers need one if the client names some. */
static int refuse_ffdhe(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
			void *ex)
{
	const unsigned char *group = other;
	bool for_cipher = dhe_ciphers && ssl != NULL && SSL_version(ssl) == TLS1_2_VERSION;

	if ((op & (int)SSL_SECOP_OTHER_TYPE) == SSL_SECOP_OTHER_CURVE && group[0] == 1 &&
	    !for_cipher)
		return 0;
	return default_security(ssl, ctx, op, bits, nid, other, ex);
}

static bool set_ciphers(SSL_CTX *ctx, const struct options *o, struct error *e)
{
	if (o->ciphers == NULL && !set_default_ciphers(ctx, o->client || site.dhe, e))
		return false;
	if (o->ciphers != NULL && SSL_CTX_set_cipher_list(ctx, o->ciphers) != 1)
		return fail(e, EX_USAGE,
			    "-C %s: OpenSSL has no such ciphers (see openssl-ciphers(1))",
			    o->ciphers);
	if (o->ciphersuites != NULL && SSL_CTX_set_ciphersuites(ctx, o->ciphersuites) != 1)
		return fail(e, EX_USAGE, "--ciphersuites=%s: OpenSSL has no such TLS 1.3 suites",
			    o->ciphersuites);
	if (o->groups != NULL && SSL_CTX_set1_groups_list(ctx, o->groups) != 1)
		return fail(e, EX_USAGE, "--groups=%s: OpenSSL has no such key-exchange groups",
			    o->groups);
	if (!o->client && !(o->groups != NULL ? names_ffdhe(o->groups) : site.ffdhe)) {
		dhe_ciphers = o->ciphers != NULL ? names_dhe(o->ciphers) : site.dhe;
		default_security = SSL_CTX_get_security_callback(ctx);
		SSL_CTX_set_security_callback(ctx, refuse_ffdhe);
	}
	SSL_CTX_set_dh_auto(ctx, 1);
	return true;
}

/* PostgreSQL's manual, "SSL Session Encryption"; RFC 7301. */
const unsigned char tls_alpn[] = "\012postgresql";

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		       const unsigned char *in, unsigned in_len, void *arg)
{
	unsigned char *chosen;

	(void)ssl, (void)arg;
	if (SSL_select_next_proto(&chosen, out_len, tls_alpn, TLS_ALPN_LEN, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

bool tls_apply_settings(SSL_CTX *ctx, const struct options *o, struct error *e)
{
	static const unsigned char session_context[] = "pgssl";

	/* No session cache, tickets (below: of TLS 1.3), renegotiation or compression. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
				     SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
				     SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_clear_options(ctx, SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION |
				       SSL_OP_LEGACY_SERVER_CONNECT);
	SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1);
	SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
	/* Overrules VerifyMode of openssl.cnf: what is verified depends on the options alone. */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	/* Read all that is available at once. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, TLS_IN_SIZE);
	if (SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
	    SSL_CTX_set_max_send_fragment(ctx, TLS_RECORD_MAX) != 1)
		return fail(e, EX_SOFTWARE, "could not set up OpenSSL: %s",
			    tls_reason("no reason given"));
	return set_protocols(ctx, o, e) && set_ciphers(ctx, o, e);
}

/*
 * OpenSSL looks an algorithm up at its first use and then keeps it, in tables all over the heap. A
 * child that did so would copy these pages. Unknown names do not matter.
 */
bool tls_fetch_algorithms(void)
{
	static const char *const keys[] = {"X25519", "EC", "RSA", "ED25519"};
	static const char *const exchanges[] = {"X25519", "ECDH"};
	static const char *const signatures[] = {"ECDSA", "RSA", "ED25519"};
	static const char *const kdfs[] = {"TLS13-KDF", "TLS1-PRF", "HKDF"};
	static const char *const digests[] = {"SHA256", "SHA384"};
	unsigned char byte;

	(void)tls_no_memory();
	/* Generating a hybrid key looks up its two parts too. */
	EVP_PKEY_free(EVP_PKEY_Q_keygen(NULL, NULL, "X25519MLKEM768"));
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		EVP_KEYMGMT_free(EVP_KEYMGMT_fetch(NULL, keys[i], NULL));
	for (size_t i = 0; i < sizeof exchanges / sizeof *exchanges; i++)
		EVP_KEYEXCH_free(EVP_KEYEXCH_fetch(NULL, exchanges[i], NULL));
	for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
		EVP_SIGNATURE_free(EVP_SIGNATURE_fetch(NULL, signatures[i], NULL));
	for (size_t i = 0; i < sizeof kdfs / sizeof *kdfs; i++)
		EVP_KDF_free(EVP_KDF_fetch(NULL, kdfs[i], NULL));
	for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
		EVP_MD_free(EVP_MD_fetch(NULL, digests[i], NULL));
	EVP_MAC_free(EVP_MAC_fetch(NULL, "HMAC", NULL));
	EVP_KEM_free(EVP_KEM_fetch(NULL, "X25519MLKEM768", NULL));
	/* A child's generators seed themselves again. */
	(void)!RAND_bytes(&byte, 1);
	(void)!RAND_priv_bytes(&byte, 1);
	ERR_clear_error();
	return !tls_no_memory();
}
