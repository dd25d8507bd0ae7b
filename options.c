/* SPDX-License-Identifier: ISC
 *
 * options.c - step 1: one table of options feeds parsing, --help and the check of the manual.
 *
 * getopt prints nothing: under inetd its words would go to the client.
 */
#include "options.h"

#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CERT SYSCONFDIR "/pgssl/pgssl.pem"

enum kind {
	FLAG,   /* bool */
	TEXT,   /* const char *, not empty */
	NUMBER, /* int between min and max */
	CHOICE, /* an enum: 1, 2, ... of the words in `choices` */
	CERT,   /* the next free cert */
	LEVEL,  /* syslog level, by number or name */
	PASSED, /* classic option with an argument that means nothing here */
	PASSED_FLAG,
	REFUSED, /* option that is not supported: `help` says what to use instead */
	REFUSED_FLAG,
};

static const struct row {
	int letter;       /* 0: has none */
	const char *word; /* NULL: has none */
	enum kind kind;
	size_t target;
	int min, max;
	const char *choices; /* of a CHOICE: "a|b"; else the argument's name in --help */
	const char *help;
} rows[] = {
#define AT(member) offsetof(struct options, member)
    {'p', "cert", CERT, 0, 0, 0, "FILE",
     "PEM file: certificate chain, and the key unless --key; twice for two kinds [" DEFAULT_CERT
     "]"},
    {0, "key", TEXT, AT(key), 0, 0, "FILE", "PEM file of the private key"},
    {0, "passphrase-command", TEXT, AT(passphrase_command), 0, 0, "CMD",
     "prints the key's passphrase"},
    {'r', "connect", TEXT, AT(connect), 0, 0, "ADDR",
     "PostgreSQL: [HOST:]PORT or a Unix socket's /PATH[:PORT] [5432]"},
    {'I', "local", TEXT, AT(local), 0, 0, "ADDR", "connect to PostgreSQL from this address"},
    {'d', "listen", TEXT, AT(listen), 0, 0, "ADDR",
     "listen on [HOST:]PORT, without a super-server"},
    {'f', "foreground", FLAG, AT(foreground), 0, 0, NULL, "with -d: do not go to the background"},
    {0, "max-connections", NUMBER, AT(max_connections), 1, 100000, "N",
     "with -d: more are told that there are too many [100]"},
    {0, "grace", NUMBER, AT(grace), 0, INT_MAX / 1000, "S",
     "with -d: seconds for sessions to end after SIGTERM [0]"},
    {0, "proxy-protocol", FLAG, AT(proxy_protocol), 0, 0, NULL,
     "a PROXY v1 or v2 header comes first"},
    {'T', "transparent", FLAG, AT(transparent), 0, 0, NULL,
     "connect to PostgreSQL from the client's address (needs CAP_NET_ADMIN and a route back)"},
    {0, "application-name-host", FLAG, AT(application_name_host), 0, 0, NULL,
     "append the client's address and port to application_name"},
    {'P', "pidfile", TEXT, AT(pidfile), 0, 0, "PATH",
     "write a pid file: a folder or a file's name"},
    {'c', "client", FLAG, AT(client), 0, 0, NULL,
     "client mode: plaintext on standard input, TLS to PostgreSQL"},
    {0, "sslmode", CHOICE, AT(sslmode), 0, 0, "require|verify-ca|verify-full",
     "client mode: how to verify the server [verify-full with -A]"},
    {0, "sslnegotiation", CHOICE, AT(sslnegotiation), 0, 0, "postgres|direct",
     "client mode: how TLS begins [postgres]"},
    {0, "servername", TEXT, AT(servername), 0, 0, "NAME",
     "client mode: name for SNI and verification [the host of -r]"},
    {'C', "ciphers", TEXT, AT(ciphers), 0, 0, "LIST", "TLS 1.2 ciphers [forward-secret AEAD]"},
    {0, "ciphersuites", TEXT, AT(ciphersuites), 0, 0, "LIST", "TLS 1.3 cipher suites"},
    {0, "groups", TEXT, AT(groups), 0, 0, "LIST", "key-exchange groups"},
    {0, "min-protocol", CHOICE, AT(min_protocol), 0, 0, "TLSv1.2|TLSv1.3",
     "lowest TLS version [TLSv1.2]"},
    {0, "max-protocol", CHOICE, AT(max_protocol), 0, 0, "TLSv1.2|TLSv1.3", "highest TLS version"},
    {0, "alpn", CHOICE, AT(alpn), 0, 0, "optional|require",
     "with direct TLS, must the client offer ALPN \"postgresql\" [optional]"},
    {'A', "ca", TEXT, AT(ca), 0, 0, "FILE",
     "PEM file of the authorities to trust; client mode: or \"system\""},
    {0, "crl", TEXT, AT(crl), 0, 0, "FILE", "PEM file of revocation lists, for the whole chain"},
    {0, "clientcert", CHOICE, AT(clientcert), 0, 0, "verify-ca|verify-full",
     "demand a client certificate; one that names the user [with -A: verified if given]"},
    {0, "clientname", CHOICE, AT(clientname), 0, 0, "CN|DN|SAN",
     "which of its names is the user [CN]"},
    {0, "clientcert-expiry", FLAG, AT(clientcert_expiry), 0, 0, NULL,
     "end the session when the certificate expires"},
    {0, "ident-map", TEXT, AT(ident_map), 0, 0, "FILE",
     "certificate names to users, as pg_ident.conf has them"},
    {0, "map", TEXT, AT(map), 0, 0, "NAME", "the map in that file"},
    {0, "gss", FLAG, AT(gss), 0, 0, NULL,
     "carry GSSAPI-encrypted (Kerberos) connections to PostgreSQL as they are"},
    {'s', "user", TEXT, AT(user), 0, 0, "USER",
     "run as this user [as started; root becomes nobody]"},
    {'g', "group", TEXT, AT(group), 0, 0, "GROUP", "run as this group [the user's]"},
    {0, "handshake-timeout", NUMBER, AT(handshake_timeout), 1, 3600, "S",
     "seconds until the startup packet must be in [60]"},
    {0, "connect-timeout", NUMBER, AT(connect_timeout), 1, 3600, "S",
     "seconds for connecting to PostgreSQL [10]"},
    {0, "idle-timeout", NUMBER, AT(idle_timeout), 0, INT_MAX / 1000, "S",
     "end a session after so many seconds without a byte; 0: never [0]"},
    {0, "spin", NUMBER, AT(spin), 0, 1000, "US",
     "look for bytes this many microseconds before sleeping; 0: off [0]"},
    {0, "keepalive", NUMBER, AT(keepalive), 0, 32767, "S",
     "TCP keepalive after so many seconds of silence; 0: off [60]"},
    {'o', "log", TEXT, AT(log), 0, 0, "FILE", "append the log to a file"},
    {'D', "debug", LEVEL, AT(debug), 0, 0, "LEVEL", "log level, 0 to 7 or syslog's names [notice]"},
    {'N', "service", TEXT, AT(service), 0, 0, "NAME", "name in the log [pgssl]"},
    {0, "sessions", TEXT, AT(sessions), 0, 0, "FOLDER",
     "list the live sessions whose pid files are there, and exit"},
    {0, "check", FLAG, AT(check), 0, 0, NULL,
     "examine all that a connection would use, say what is wrong, and exit"},
    {'h', "help", FLAG, AT(help), 0, 0, NULL, "print this and exit"},
    {'V', "version", FLAG, AT(version), 0, 0, NULL, "print the version and exit"},
    {'v', NULL, CHOICE, AT(classic_verify), 0, 0, "0|1|2", NULL},
    {'n', NULL, PASSED, 0, 0, 0, "pgsql", NULL},
    {'t', NULL, PASSED, 0, 0, 0, NULL, NULL},
    {'O', NULL, PASSED, 0, 0, 0, NULL, NULL},
    {'R', NULL, PASSED, 0, 0, 0, NULL, NULL},
    {'E', NULL, PASSED, 0, 0, 0, NULL, NULL},
    {'B', NULL, PASSED, 0, 0, 0, NULL, NULL},
    {'W', NULL, PASSED_FLAG, 0, 0, 0, NULL, NULL},
    {'a', NULL, REFUSED, 0, 0, 0, NULL,
     "is not supported: use -A FILE for the authorities to trust"},
    {'l', NULL, REFUSED, 0, 0, 0, NULL,
     "is not supported: pgssl runs no programs; use -r for PostgreSQL's address"},
    {'L', NULL, REFUSED, 0, 0, 0, NULL,
     "is not supported: pgssl runs no programs; use -r for PostgreSQL's address"},
    {'u', NULL, REFUSED, 0, 0, 0, NULL,
     "is not supported: pgssl asks no ident server; use -s USER for the user to run as"},
    {0, "early-connect", REFUSED_FLAG, 0, 0, 0, NULL,
     "is no longer supported: use -d, which is faster, to listen without a super-server"},
#undef AT
};

#define ROWS      (sizeof rows / sizeof rows[0])
#define WORD_BASE 256 /* getopt_long's value for a row's word: WORD_BASE + its index */

static bool takes_argument(const struct row *r)
{
	return r->kind != FLAG && r->kind != PASSED_FLAG && r->kind != REFUSED_FLAG;
}

/* What getopt_long wants, made of the table. */
static void build_tables(char *letters, struct option *words)
{
	*letters++ = ':'; /* tell a missing argument from an unknown option */
	for (size_t i = 0; i < ROWS; i++) {
		if (rows[i].letter != 0) {
			*letters++ = (char)rows[i].letter;
			if (takes_argument(&rows[i]))
				*letters++ = ':';
		}
		if (rows[i].word != NULL)
			*words++ = (struct option){rows[i].word, takes_argument(&rows[i]), NULL,
						   WORD_BASE + (int)i};
	}
	*letters = '\0';
	*words = (struct option){NULL, 0, NULL, 0};
}

static const struct row *find_row(int value)
{
	if (value >= WORD_BASE)
		return &rows[value - WORD_BASE];
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].letter == value)
			return &rows[i];
	return NULL;
}

/* "-p" or "--cert", as it was given. */
static const char *shown(const struct row *r, int value, char *buf, size_t size)
{
	if (value < WORD_BASE)
		snprintf(buf, size, "-%c", r->letter);
	else
		snprintf(buf, size, "--%s", r->word);
	return buf;
}

static bool set_number(const struct row *r, const char *name, const char *text, int *target,
		       struct error *e)
{
	const char *wrong;
	long long number = strtonum(text, r->min, r->max, &wrong);

	if (wrong != NULL)
		return fail(e, EX_USAGE, "%s %s: expected a number from %d to %d", name, text,
			    r->min, r->max);
	*target = (int)number;
	return true;
}

/* gcc and clang make an enum without negative values compatible with unsigned int. */
_Static_assert(sizeof(enum sslmode) == sizeof(unsigned), "a choice is written as unsigned int");

static bool set_choice(const struct row *r, const char *name, const char *text, unsigned *target,
		       struct error *e)
{
	const char *at = r->choices;
	size_t len = strlen(text);

	for (unsigned i = 1;; i++) {
		size_t n = strcspn(at, "|");
		if (n == len && strncmp(at, text, n) == 0) {
			*target = i;
			return true;
		}
		if (at[n] == '\0')
			return fail(e, EX_USAGE, "%s %s: expected %s", name, text, r->choices);
		at += n + 1;
	}
}

static bool set_level(const char *name, const char *text, int *target, struct error *e)
{
	static const char *const names[] = {"emerg",   "alert",  "crit", "err",
					    "warning", "notice", "info", "debug"};

	for (int i = 0; i < 8; i++) {
		if (strcmp(text, names[i]) == 0 || (text[0] == '0' + i && text[1] == '\0')) {
			*target = i;
			return true;
		}
	}
	return fail(e, EX_USAGE,
		    "%s %s: expected a level from 0 to 7, or emerg, alert, crit, err, warning, "
		    "notice, info, debug",
		    name, text);
}

static bool add_cert(struct options *o, const char *name, const char *file, struct error *e)
{
	for (int i = 0; i < OPTIONS_CERTS; i++) {
		if (o->cert[i] == NULL) {
			o->cert[i] = file;
			return true;
		}
	}
	return fail(e, EX_USAGE, "%s %s: at most two certificates, one RSA and one ECDSA", name,
		    file);
}

static bool set(struct options *o, const struct row *r, const char *name, const char *text,
		struct error *e)
{
	char *base = (char *)o;

	if (takes_argument(r) && text[0] == '\0')
		return fail(e, EX_USAGE, "%s: its argument is empty", name);
	switch (r->kind) {
	case FLAG:
		*(bool *)(base + r->target) = true;
		return true;
	case TEXT:
		*(const char **)(base + r->target) = text;
		return true;
	case NUMBER:
		return set_number(r, name, text, (int *)(base + r->target), e);
	case CHOICE:
		return set_choice(r, name, text, (unsigned *)(base + r->target), e);
	case CERT:
		return add_cert(o, name, text, e);
	case LEVEL:
		return set_level(name, text, (int *)(base + r->target), e);
	case PASSED:
		if (r->choices != NULL && strcmp(text, r->choices) != 0)
			return fail(e, EX_USAGE,
				    "%s %s: expected %s: PostgreSQL is all that pgssl speaks", name,
				    text, r->choices);
		return true;
	case PASSED_FLAG:
		return true;
	case REFUSED:
	case REFUSED_FLAG:
		return fail(e, EX_USAGE, "%s %s", name, r->help);
	}
	return false;
}

static bool bad_option(int value, char **argv, struct error *e)
{
	const char *word = argv[optind - 1];

	if (value == ':')
		return fail(e, EX_USAGE, "%s: an argument is missing (see --help)", word);
	if (optopt == 0)
		return fail(e, EX_USAGE, "%s: unknown or ambiguous option (see --help)", word);
	if (optopt >= WORD_BASE)
		return fail(e, EX_USAGE, "--%s: takes no argument", rows[optopt - WORD_BASE].word);
	return fail(e, EX_USAGE, "-%c: unknown option (see --help)", optopt);
}

static bool parse(struct options *o, int argc, char **argv, struct error *e)
{
	char letters[2 * ROWS + 2], name[64];
	struct option words[ROWS + 1];
	int value;

	build_tables(letters, words);
	opterr = 0;
	while ((value = getopt_long(argc, argv, letters, words, NULL)) != -1) {
		if (value == '?' || value == ':')
			return bad_option(value, argv, e);
		const struct row *r = find_row(value);
		if (!set(o, r, shown(r, value, name, sizeof name), optarg, e))
			return false;
	}
	if (optind < argc)
		return fail(e, EX_USAGE, "%s: unexpected argument (see --help)", argv[optind]);
	return true;
}

/* What makes no sense together. */
static bool check(const struct options *o, struct error *e)
{
	bool demanded = o->clientcert != CLIENTCERT_UNSET,
	     full = o->clientcert == CLIENTCERT_VERIFY_FULL;
	bool classic = o->classic_verify != CLASSIC_UNSET;
	bool verified = o->sslmode == SSLMODE_VERIFY_CA || o->sslmode == SSLMODE_VERIFY_FULL;
	const struct {
		bool wrong;
		const char *text;
	} rules[] = {
	    {o->key != NULL && o->cert[1] != NULL,
	     "--key makes no sense with two certificates: each -p file must hold its own key"},
	    {o->crl != NULL && o->ca == NULL,
	     "--crl needs -A: the authorities whose lists they are"},
	    {classic && demanded, "-v makes no sense with --clientcert: leave out -v"},
	    {o->classic_verify == CLASSIC_IGNORE && o->ca != NULL,
	     "-v 0 makes no sense with -A, which asks for certificates"},
	    {classic && o->classic_verify != CLASSIC_IGNORE && o->ca == NULL,
	     "-v 1 and -v 2 need -A: the authorities to trust"},
	    {demanded && o->ca == NULL, "--clientcert needs -A: the authorities to trust"},
	    {o->clientcert_expiry && o->ca == NULL,
	     "--clientcert-expiry needs -A: the authorities to trust"},
	    {o->clientname != CLIENTNAME_UNSET && !full,
	     "--clientname makes sense only with --clientcert=verify-full"},
	    {o->ident_map != NULL && !full,
	     "--ident-map makes sense only with --clientcert=verify-full"},
	    {o->map != NULL && !full, "--map makes sense only with --clientcert=verify-full"},
	    {o->ident_map != NULL && o->map == NULL,
	     "--ident-map needs --map: which of its maps is meant?"},
	    {o->map != NULL && o->ident_map == NULL,
	     "--map needs --ident-map: the file that it is in"},
	    {o->gss && (demanded || o->classic_verify == CLASSIC_REQUIRE),
	     "--gss makes no sense with --clientcert or -v 2: GSSAPI-encrypted connections show no "
	     "certificate"},
	    {o->client && o->check, "--check examines server mode: leave out -c"},
	    {o->client && o->gss, "--gss makes no sense in client mode (-c)"},
	    {o->client && o->alpn != ALPN_UNSET, "--alpn makes no sense in client mode (-c)"},
	    {o->client && (demanded || classic || o->clientcert_expiry),
	     "--clientcert, --clientcert-expiry and -v make no sense in client mode (-c): see "
	     "--sslmode"},
	    {o->client && o->connect[0] == '/', "-r: PostgreSQL speaks no TLS on a Unix socket: "
						"client mode (-c) needs a host and port"},
	    {o->client && o->cert[1] != NULL, "-p: in client mode (-c) there is one certificate"},
	    {o->client && o->key != NULL && o->cert[0] == NULL, "--key makes no sense without -p"},
	    {o->client && verified && o->ca == NULL,
	     "--sslmode=verify-ca and verify-full need -A: the authorities to trust"},
	    {o->client && o->sslmode != SSLMODE_UNSET && o->sslmode != SSLMODE_VERIFY_FULL &&
		 o->ca != NULL && strcmp(o->ca, "system") == 0,
	     "-A system needs --sslmode=verify-full: anybody can have a certificate of those "
	     "authorities"},
	    {o->listen == NULL && o->foreground, "-f makes no sense without -d"},
	    {o->listen == NULL && o->max_connections != 0,
	     "--max-connections makes no sense without -d"},
	    {o->listen == NULL && o->grace != 0, "--grace makes no sense without -d"},
	    {o->transparent && o->local != NULL,
	     "-I makes no sense with --transparent: the address is the client's"},
	    {o->client && (o->proxy_protocol || o->transparent || o->application_name_host),
	     "--proxy-protocol, --transparent and --application-name-host make no sense in client "
	     "mode (-c)"},
	    {!o->client && o->sslmode != SSLMODE_UNSET,
	     "--sslmode makes sense in client mode (-c) only"},
	    {!o->client && o->sslnegotiation != SSLNEGOTIATION_UNSET,
	     "--sslnegotiation makes sense in client mode (-c) only"},
	    {o->servername != NULL && o->servername[0] == '.',
	     "--servername: a name, not all names of a domain"},
	    {!o->client && o->servername != NULL,
	     "--servername makes sense in client mode (-c) only"},
	};

	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
		if (rules[i].wrong)
			return fail(e, EX_USAGE, "%s", rules[i].text);
	return true;
}

/* What was left to choose. Like libpq, verify the authority even with "require" if one is given. */
static void set_defaults(struct options *o)
{
	if (o->classic_verify == CLASSIC_REQUIRE)
		o->clientcert = CLIENTCERT_VERIFY_CA;
	if (o->clientname == CLIENTNAME_UNSET)
		o->clientname = CLIENTNAME_CN;
	if (o->sslmode == SSLMODE_UNSET)
		o->sslmode = o->ca != NULL ? SSLMODE_VERIFY_FULL : SSLMODE_REQUIRE;
	else if (o->sslmode == SSLMODE_REQUIRE && o->ca != NULL)
		o->sslmode = SSLMODE_VERIFY_CA;
	if (o->max_connections == 0)
		o->max_connections = 100;
}

bool options_parse(struct options *o, int argc, char **argv, struct error *e)
{
	*o = (struct options){
	    .connect = "5432",
	    .handshake_timeout = 60,
	    .connect_timeout = 10,
	    .keepalive = 60,
	    .service = "pgssl",
	    .debug = LOG_NOTICE,
	};
	bool ok = parse(o, argc, argv, e);
	if (o->cert[0] == NULL && !o->client)
		o->cert[0] = DEFAULT_CERT;
	ok = ok && check(o, e);
	set_defaults(o);
	return ok;
}

void options_help(void)
{
	printf("usage: pgssl [option ...]\n"
	       "TLS in front of PostgreSQL, started by xinetd, inetd or systemd with a client on "
	       "standard input and "
	       "output,\nor listening itself with -d.\n\n");
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];
		char letter[8] = "    ", left[64];

		if (r->help == NULL || r->kind == REFUSED || r->kind == REFUSED_FLAG)
			continue;
		if (r->letter != 0)
			snprintf(letter, sizeof letter, "-%c, ", r->letter);
		snprintf(left, sizeof left, "%s--%s%s%s", letter, r->word,
			 r->choices != NULL ? "=" : "", r->choices != NULL ? r->choices : "");
		printf("  %-40s %s\n", left, r->help);
	}
	printf("\nSee pgssl(8).\n");
}

void options_version(const char *library)
{
	printf("pgssl %s (%s)\n", VERSION, library);
}
