/* SPDX-License-Identifier: ISC
 *
 * options.c - step 1: one table of options for parsing, --help and the check of the manual.
 *
 * getopt must print nothing: under inetd that would go to the client.
 */
#include "options.h"

#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CERT SYSCONFDIR "/pgssl/pgssl.pem"
#define DEFAULT_PIDS "/run/pgssl"

enum kind {
	FLAG,     /* bool */
	TEXT,     /* const char *, not empty */
	NUMBER,   /* int from min to max */
	CHOICE,   /* an enum: 1, 2, ... for the words in `argument` */
	CERT,     /* the next free cert */
	LEVEL,    /* syslog level, by number or name */
	PASSED,   /* classic option without a meaning; with a `help`, only `argument` is taken */
	REFUSED,  /* option that is not supported: `help` says what to use instead */
	KIND = 7, /* the bits of these. What an option needs: */
	SERVER = 8,
	CLIENT = 16,
	LISTENER = 32,
	MATCHED = 64,   /* --clientcert=verify-full */
	TRUST = 128,    /* -A */
	OPTIONAL = 256, /* not needed: the argument; it is DEFAULT_PIDS then */
};

static const struct row {
	int letter;       /* 0: none */
	const char *word; /* NULL: none */
	int kind;         /* enum kind, and what is needed */
	size_t target;
	int min, max;
	const char *argument; /* NULL: none. Of a CHOICE: "a|b"; else its name in --help */
	const char *help;     /* lines of at most 48 columns */
} rows[] = {
/* clang-format off */
#define RANGE(member, min, max) offsetof(struct options, member), min, max
#define AT(member)              RANGE(member, 0, 0)
#define NONE                    0, 0, 0
#define HEADING(text)           {0, NULL, FLAG, NONE, NULL, text}
    HEADING("Certificate and TLS:"),
    {'p', "cert", CERT, NONE, "FILE",
     "PEM file with the certificate chain and the\n"
     "private key; may be given twice, for two types\n"
     "of keys [" DEFAULT_CERT "]"},
    {0, "key", TEXT, AT(key), "FILE", "PEM file with the private key [that of -p]"},
    {0, "passphrase-command", TEXT, AT(passphrase_command), "COMMAND",
     "shell command that prints the key's passphrase"},
    {'C', "ciphers", TEXT, AT(ciphers), "LIST", "TLS 1.2 ciphers [ECDHE with AEAD]"},
    {0, "ciphersuites", TEXT, AT(ciphersuites), "LIST",
     "TLS 1.3 cipher suites [OpenSSL's default]"},
    {0, "groups", TEXT, AT(groups), "LIST",
     "key exchange groups [OpenSSL's default without\n"
     "finite-field groups]"},
    {0, "min-protocol", CHOICE, AT(min_protocol), "TLSv1.2|TLSv1.3",
     "lowest TLS version [TLSv1.2]"},
    {0, "max-protocol", CHOICE, AT(max_protocol), "TLSv1.2|TLSv1.3",
     "highest TLS version [no limit]"},
    {0, "alpn", CHOICE | SERVER, AT(alpn), "optional|require",
     "whether clients that use direct TLS must offer\n"
     "ALPN \"postgresql\" [optional]"},
    HEADING("PostgreSQL:"),
    {'r', "connect", TEXT, AT(connect), "ADDRESS",
     "address of PostgreSQL: [HOST:]PORT, or\n"
     "/PATH[:PORT] of a Unix socket [5432]"},
    {'I', "local", TEXT, AT(local), "ADDRESS", "connect to PostgreSQL from this local address"},
    HEADING("Access control:"),
    {'A', "ca", TEXT, AT(ca), "FILE",
     "certificates of the authorities to trust (PEM\n"
     "file or directory; client mode: or \"system\")"},
    {0, "crl", TEXT | TRUST, AT(crl), "FILE",
     "certificate revocation lists (PEM file or\n"
     "directory), checked for the whole chain"},
    {0, "clientcert", CHOICE | SERVER | TRUST, AT(clientcert), "verify-ca|verify-full",
     "require a client certificate; verify-full: one\n"
     "that names the user [with -A: verify if sent]"},
    {0, "clientname", CHOICE | MATCHED, AT(clientname), "CN|DN|SAN",
     "name in the certificate that must match the\n"
     "user [CN]"},
    {0, "ident-map", TEXT | MATCHED, AT(ident_map), "FILE",
     "map certificate names to users (format of\n"
     "pg_ident.conf)"},
    {0, "map", TEXT | MATCHED, AT(map), "NAME", "name of the map to use in that file"},
    {0, "clientcert-expiry", FLAG | SERVER | TRUST, AT(clientcert_expiry), NULL,
     "end a session when its certificate expires"},
    {0, "gss", FLAG | SERVER, AT(gss), NULL,
     "relay GSSAPI-encrypted (Kerberos) connections\n"
     "to PostgreSQL unchanged"},
    HEADING("Privileges:"),
    {'s', "user", TEXT, AT(user), "USER", "run as this user [as started; root: nobody]"},
    {'g', "group", TEXT, AT(group), "GROUP", "run as this group [the user's]"},
    HEADING("Limits:"),
    {0, "handshake-timeout", NUMBER, RANGE(handshake_timeout, 1, 3600), "SECONDS",
     "maximum time until the startup packet [60]"},
    {0, "connect-timeout", NUMBER, RANGE(connect_timeout, 1, 3600), "SECONDS",
     "maximum time to connect to PostgreSQL [10]"},
    {0, "idle-timeout", NUMBER, RANGE(idle_timeout, 0, INT_MAX / 1000), "SECONDS",
     "end a session after this time without data;\n"
     "0: never [0]"},
    {0, "keepalive", NUMBER, RANGE(keepalive, 0, 32767), "SECONDS",
     "start TCP keepalive probes after this time\n"
     "without data; 0: off [60]"},
    {0, "spin", NUMBER, RANGE(spin, 0, 1000), "MICROSECONDS",
     "poll this long before sleeping; 0: off [0]"},
    HEADING("Client mode:"),
    {'c', "client", FLAG, AT(client), NULL,
     "accept plaintext on standard input, and connect\n"
     "to -r with TLS"},
    {0, "sslmode", CHOICE | CLIENT, AT(sslmode), "require|verify-ca|verify-full",
     "how to verify the server [verify-full with -A,\n"
     "else require]"},
    {0, "sslnegotiation", CHOICE | CLIENT, AT(sslnegotiation), "postgres|direct",
     "how to start TLS [postgres]"},
    {0, "servername", TEXT | CLIENT, AT(servername), "NAME",
     "server name for SNI and verification [the host\n"
     "of -r]"},
    HEADING("Listening, with -d or on a socket that the super-server passes:"),
    {'d', "listen", TEXT, AT(listen), "ADDRESS",
     "listen on [HOST:]PORT without a super-server,\n"
     "in the background"},
    {'f', "foreground", FLAG | LISTENER, AT(foreground), NULL,
     "with -d: stay in the foreground"},
    {0, "max-connections", NUMBER | LISTENER, RANGE(max_connections, 1, 100000), "N",
     "maximum number of sessions; further clients get\n"
     "SQLSTATE 53300 [100]"},
    {0, "max-per-source", NUMBER | LISTENER, RANGE(max_per_source, 1, 100000), "N",
     "the same for clients of one address [a quarter\n"
     "of that, but at least 10]"},
    {0, "grace", NUMBER | LISTENER, RANGE(grace, 0, INT_MAX / 1000), "SECONDS",
     "time for sessions to end after SIGTERM [0]"},
    {0, "idle-exit", NUMBER | LISTENER, RANGE(idle_exit, 0, INT_MAX / 1000), "SECONDS",
     "exit after this time without a session;\n"
     "0: never [300; with -d: 0]"},
    HEADING("Client address:"),
    {0, "proxy-protocol", FLAG | SERVER, AT(proxy_protocol), NULL,
     "require a PROXY v1 or v2 header from the load\n"
     "balancer"},
    {'T', "transparent", FLAG | SERVER, AT(transparent), NULL,
     "connect to PostgreSQL from the client's address\n"
     "(needs CAP_NET_ADMIN and a route back)"},
    {0, "application-name-host", FLAG | SERVER, AT(application_name_host), NULL,
     "append the client's address and port to\n"
     "application_name"},
    HEADING("Log and pid files:"),
    {'o', "log", TEXT, AT(log), "FILE", "append the log to this file"},
    {'D', "debug", LEVEL, AT(debug), "LEVEL",
     "log level: 0 to 7, or a name from emerg to\n"
     "debug [notice]"},
    {'N', "service", TEXT, AT(service), "NAME", "program name in the log [pgssl]"},
    {'P', "pidfile", TEXT, AT(pidfile), "PATH", "pid file, or the directory to put it in"},
    HEADING("Other modes:"),
    {0, "check", FLAG | SERVER, AT(check), NULL,
     "check everything that a connection uses, report\n"
     "what is wrong, and exit"},
    {0, "sessions", TEXT | OPTIONAL, AT(sessions), "DIRECTORY",
     "list the sessions with pid files in DIRECTORY,\n"
     "and exit [" DEFAULT_PIDS "]"},
    {'h', "help", FLAG, AT(help), NULL, "print this help and exit"},
    {'V', "version", FLAG, AT(version), NULL, "print the version and exit"},
    {'v', NULL, CHOICE | SERVER, AT(classic_verify), "0|1|2", NULL},
    {'n', NULL, PASSED, NONE, "pgsql", "expected pgsql, the only supported protocol"},
    {'t', NULL, PASSED, NONE, "S", NULL},
    {'O', NULL, PASSED, NONE, "OPTION", NULL},
    {'R', NULL, PASSED, NONE, "FILE", NULL},
    {'E', NULL, PASSED, NONE, "SOCKET", NULL},
    {'B', NULL, PASSED, NONE, "BYTES", NULL},
    {'W', NULL, PASSED, NONE, NULL, NULL},
    {'a', NULL, REFUSED, NONE, "DIR", "is not supported: use -A FILE for the authorities to trust"},
    {'l', NULL, REFUSED, NONE, "PROGRAM",
     "is not supported: pgssl runs no programs; use -r for PostgreSQL's address"},
    {'L', NULL, REFUSED, NONE, "PROGRAM",
     "is not supported: pgssl runs no programs; use -r for PostgreSQL's address"},
    {'u', NULL, REFUSED, NONE, "USER",
     "is not supported: pgssl does not query ident servers; use -s USER for the user to run as"},
    {0, "early-connect", REFUSED, NONE, NULL,
     "is no longer supported: use -d, which is faster, to listen without a super-server"},
    /* clang-format on */
};

#define ROWS      (sizeof rows / sizeof rows[0])
#define WORD_BASE 256 /* + a row's index: getopt_long's value for its word */

static int argument_need(const struct row *r)
{
	if (r->argument == NULL)
		return no_argument;
	return (r->kind & OPTIONAL) != 0 ? optional_argument : required_argument;
}

/* Make the arguments of getopt_long from the table. */
static void build_tables(char *letters, struct option *words)
{
	*letters++ = ':'; /* tell a missing argument from an unknown option */
	for (size_t i = 0; i < ROWS; i++) {
		if (rows[i].letter != 0) {
			*letters++ = (char)rows[i].letter;
			if (rows[i].argument != NULL)
				*letters++ = ':';
		}
		if (rows[i].word != NULL)
			*words++ = (struct option){rows[i].word, argument_need(&rows[i]), NULL,
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

/* "-p" or "--cert", as the user wrote it. */
static const char *option_as_given(const struct row *r, int value, char *buf, size_t size)
{
	if (value < WORD_BASE)
		snprintf(buf, size, "-%c", r->letter);
	else
		snprintf(buf, size, "--%s", r->word);
	return buf;
}

/* The position of `text` among `words` ("a|b"), from 1; 0 if it is not there. */
static unsigned word_number(const char *words, const char *text)
{
	size_t len = strlen(text);

	for (unsigned i = 1;; i++) {
		size_t n = strcspn(words, "|");
		if (n == len && strncmp(words, text, n) == 0)
			return i;
		if (words[n] == '\0')
			return 0;
		words += n + 1;
	}
}

/* gcc and clang make an enum without negative values compatible with unsigned int. */
_Static_assert(sizeof(enum sslmode) == sizeof(unsigned), "a choice is written as unsigned int");

static bool set_level(const char *name, const char *text, int *target, struct error *e)
{
	static const char words[] =
	    "0|1|2|3|4|5|6|7|emerg|alert|crit|err|warning|notice|info|debug";
	unsigned number = word_number(words, text);

	if (number == 0)
		return fail(e, EX_USAGE,
			    "%s %s: expected a level from 0 to 7, or emerg, alert, crit, err, "
			    "warning, notice, info, debug",
			    name, text);
	*target = (int)(number - 1) % 8;
	return true;
}

static bool apply_option(struct options *o, const struct row *r, const char *name, const char *text,
			 struct error *e)
{
	void *target = (char *)o + r->target;
	const char *wrong;

	if (r->argument != NULL && text[0] == '\0')
		return fail(e, EX_USAGE, "%s: the argument is empty", name);
	switch ((enum kind)(r->kind & KIND)) {
	case FLAG:
		*(bool *)target = true;
		return true;
	case TEXT:
		*(const char **)target = text;
		return true;
	case NUMBER:
		*(int *)target = (int)strtonum(text, r->min, r->max, &wrong);
		return wrong == NULL || fail(e, EX_USAGE, "%s %s: expected a number from %d to %d",
					     name, text, r->min, r->max);
	case CHOICE:
		*(unsigned *)target = word_number(r->argument, text);
		return *(unsigned *)target != 0 ||
		       fail(e, EX_USAGE, "%s %s: expected %s", name, text, r->argument);
	case CERT:
		if (o->cert[1] != NULL)
			return fail(e, EX_USAGE,
				    "%s %s: more than two certificates; give at most one RSA "
				    "and one ECDSA certificate",
				    name, text);
		o->cert[o->cert[0] != NULL] = text;
		return true;
	case LEVEL:
		return set_level(name, text, target, e);
	case PASSED:
		return r->help == NULL || strcmp(text, r->argument) == 0 ||
		       fail(e, EX_USAGE, "%s %s: %s", name, text, r->help);
	default: /* REFUSED */
		return fail(e, EX_USAGE, "%s %s", name, r->help);
	}
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

/* getopt_long takes an optional argument after a '=' only. */
static char *next_word(int argc, char **argv)
{
	static char none[] = DEFAULT_PIDS;

	return optind < argc && argv[optind][0] != '-' ? argv[optind++] : none;
}

static bool parse_arguments(struct options *o, int argc, char **argv, int given[ROWS],
			    struct error *e)
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
		given[r - rows] = value;
		if ((r->kind & OPTIONAL) != 0 && optarg == NULL)
			optarg = next_word(argc, argv);
		if (!apply_option(o, r, option_as_given(r, value, name, sizeof name), optarg, e))
			return false;
	}
	if (optind < argc)
		return fail(e, EX_USAGE, "%s: unexpected argument (see --help)", argv[optind]);
	return true;
}

/* Refuse an option without what it needs. `given` has getopt's value of each row, or 0. */
static bool check_needs(const struct options *o, const int given[ROWS], struct error *e)
{
	const struct {
		int bit;
		bool met;
		const char *text;
	} needs[] = {
	    {SERVER, !o->client, "cannot be used in client mode (-c)"},
	    {CLIENT, o->client, "requires client mode (-c)"},
	    {LISTENER, options_listener(o) || o->check, "requires -d or a listening socket"},
	    {MATCHED, o->clientcert == CLIENTCERT_VERIFY_FULL, "requires --clientcert=verify-full"},
	    {TRUST, o->ca != NULL, "requires -A: the authorities to trust"},
	};
	char name[64];

	for (size_t i = 0; i < ROWS; i++)
		for (size_t k = 0; k < sizeof needs / sizeof needs[0]; k++)
			if (given[i] != 0 && (rows[i].kind & needs[k].bit) != 0 && !needs[k].met)
				return fail(e, EX_USAGE, "%s %s",
					    option_as_given(&rows[i], given[i], name, sizeof name),
					    needs[k].text);
	return true;
}

/* Refuse options that exclude each other. */
static bool check_combination(const struct options *o, struct error *e)
{
	bool required = o->clientcert != CLIENTCERT_UNSET;
	bool classic = o->classic_verify != CLASSIC_UNSET;
	bool verified = o->sslmode == SSLMODE_VERIFY_CA || o->sslmode == SSLMODE_VERIFY_FULL;
	/* clang-format off */
	const struct {
		bool wrong;
		const char *text;
	} rules[] = {
	    {o->key != NULL && o->cert[1] != NULL,
	     "--key cannot be used with two certificates: put each key into its -p file"},
	    {classic && required, "-v cannot be used with --clientcert: leave out -v"},
	    {o->classic_verify == CLASSIC_IGNORE && o->ca != NULL,
	     "-v 0 cannot be used with -A, which requests client certificates"},
	    {classic && o->classic_verify != CLASSIC_IGNORE && o->ca == NULL,
	     "-v 1 and -v 2 require -A: the authorities to trust"},
	    {o->ident_map != NULL && o->map == NULL,
	     "--ident-map requires --map: the name of the map to use"},
	    {o->map != NULL && o->ident_map == NULL,
	     "--map requires --ident-map: the file with the map"},
	    {o->gss && (required || o->classic_verify == CLASSIC_REQUIRE),
	     "--gss cannot be used with --clientcert or -v 2: GSSAPI-encrypted connections have no"
	     " certificate"},
	    {o->client && o->connect[0] == '/',
	     "-r: client mode (-c) requires a host: PostgreSQL has no TLS on Unix sockets"},
	    {o->client && o->cert[1] != NULL, "-p: client mode (-c) uses only one certificate"},
	    {o->client && o->key != NULL && o->cert[0] == NULL,
	     "--key requires -p: the certificate"},
	    {o->client && verified && o->ca == NULL,
	     "--sslmode=verify-ca and verify-full require -A: the authorities to trust"},
	    {o->client && o->sslmode != SSLMODE_UNSET && o->sslmode != SSLMODE_VERIFY_FULL &&
	     o->ca != NULL && strcmp(o->ca, "system") == 0,
	     "-A system requires --sslmode=verify-full: anyone can get a certificate from those"
	     " authorities"},
	    {o->listen != NULL && o->inherited,
	     "-d cannot be used here: the super-server passed a listening socket; leave out -d"},
	    {o->transparent && o->local != NULL,
	     "-I cannot be used with --transparent, which uses the client's address"},
	    {o->servername != NULL && o->servername[0] == '.',
	     "--servername: expected a host name, not a domain suffix"},
	};
	/* clang-format on */

	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
		if (rules[i].wrong)
			return fail(e, EX_USAGE, "%s", rules[i].text);
	return true;
}

/* Like libpq, verify the authority even with "require" if one is given. */
static void set_defaults(struct options *o)
{
	if (o->classic_verify == CLASSIC_REQUIRE)
		o->clientcert = CLIENTCERT_VERIFY_CA;
	if (o->sslmode == SSLMODE_UNSET)
		o->sslmode = o->ca != NULL ? SSLMODE_VERIFY_FULL : SSLMODE_REQUIRE;
	else if (o->sslmode == SSLMODE_REQUIRE && o->ca != NULL)
		o->sslmode = SSLMODE_VERIFY_CA;
	/* With these, all clients come from one address. */
	if (o->max_per_source == 0 && (o->client || o->proxy_protocol))
		o->max_per_source = o->max_connections;
	else if (o->max_per_source == 0)
		o->max_per_source = o->max_connections > 40 ? o->max_connections / 4 : 10;
	if (o->idle_exit < 0)
		o->idle_exit = o->inherited ? 300 : 0;
}

bool options_listener(const struct options *o)
{
	return o->listen != NULL || o->inherited;
}

bool options_parse(struct options *o, int argc, char **argv, bool inherited, struct error *e)
{
	*o = (struct options){
	    .inherited = inherited,
	    .idle_exit = -1,
	    .connect = "5432",
	    .clientname = CLIENTNAME_CN,
	    .max_connections = 100,
	    .handshake_timeout = 60,
	    .connect_timeout = 10,
	    .keepalive = 60,
	    .service = "pgssl",
	    .debug = LOG_NOTICE,
	};
	int given[ROWS] = {0};
	bool ok = parse_arguments(o, argc, argv, given, e);
	if (o->cert[0] == NULL && !o->client)
		o->cert[0] = DEFAULT_CERT;
	ok = ok && check_needs(o, given, e) && check_combination(o, e);
	set_defaults(o);
	return ok;
}

static void print_help(const char *left, const char *text)
{
	enum { COLUMN = 32 };

	if (strlen(left) >= COLUMN) {
		puts(left);
		left = "";
	}
	for (size_t n; *text != '\0'; text += n + (text[n] == '\n')) {
		n = strcspn(text, "\n");
		printf("%-*s%.*s\n", COLUMN, left, (int)n, text);
		left = "";
	}
}

void options_help(void)
{
	printf(
	    "usage: pgssl [option ...]\n"
	    "TLS in front of PostgreSQL, one process per connection. xinetd, inetd or systemd\n"
	    "starts it with a client on standard input and output. With -d it listens itself.\n");
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];
		char letter[8] = "    ", left[64];

		if (r->help == NULL || (r->kind & KIND) >= PASSED)
			continue;
		if (r->word == NULL) {
			printf("\n%s\n", r->help);
			continue;
		}
		if (r->letter != 0)
			snprintf(letter, sizeof letter, "-%c, ", r->letter);
		bool optional = (r->kind & OPTIONAL) != 0;
		snprintf(left, sizeof left, "  %s--%s%s%s%s%s", letter, r->word,
			 optional ? "[" : "", r->argument != NULL ? "=" : "",
			 r->argument != NULL ? r->argument : "", optional ? "]" : "");
		print_help(left, r->help);
	}
	printf("\nDefaults are in brackets. See pgssl(8).\n");
}
