/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/options.c - fuzz target: the command line.
 *
 * The input's first bit says whether a super-server passed a socket; the rest are the words, each
 * ended by a NUL. What is accepted must be as the manual says, and written as a command line again
 * it must mean the same.
 *
 * sabotage: s/, RANGE(keepalive, 0, 32767)/, RANGE(keepalive, 0, 32768)/ options.c
 * sabotage: s/"crl", TEXT | TRUST/"crl", TEXT/ options.c
 * sabotage: s/"grace", NUMBER | LISTENER/"grace", NUMBER/ options.c
 * sabotage: s/(int)(number - 1) % 8/(int)number % 8/ options.c
 * sabotage: s/"alpn", CHOICE | SERVER/"alpn", CHOICE/ options.c
 * sabotage: s/else if (o->sslmode == SSLMODE_REQUIRE .. o->ca != NULL)/else/ options.c
 */
#include "options.h"

#include <getopt.h>
#include <limits.h>
#include <stdarg.h>

#include "fuzz.h"

#define WORDS_MAX 40
#define ALWAYS    "" /* no need */

enum type { BOOL, NUMBER, TEXT, CHOICE };

/* The manual: what an option needs, and its range or its words. */
static const struct {
	const char *word;
	enum type type;
	size_t at;
	const char *needs; /* s: not -c, c: -c, l: a listener, m: verify-full, t: -A */
	int min, max;
	const char *words[4];
} manual[] = {
#define AT(member) offsetof(struct options, member)
    {"key", TEXT, AT(key), ALWAYS, 0, 0, {0}},
    {"passphrase-command", TEXT, AT(passphrase_command), ALWAYS, 0, 0, {0}},
    {"ciphers", TEXT, AT(ciphers), ALWAYS, 0, 0, {0}},
    {"ciphersuites", TEXT, AT(ciphersuites), ALWAYS, 0, 0, {0}},
    {"groups", TEXT, AT(groups), ALWAYS, 0, 0, {0}},
    {"min-protocol", CHOICE, AT(min_protocol), ALWAYS, 0, 2, {"", "TLSv1.2", "TLSv1.3"}},
    {"max-protocol", CHOICE, AT(max_protocol), ALWAYS, 0, 2, {"", "TLSv1.2", "TLSv1.3"}},
    {"alpn", CHOICE, AT(alpn), "s", 0, 2, {"", "optional", "require"}},
    {"connect", TEXT, AT(connect), ALWAYS, 0, 0, {0}},
    {"local", TEXT, AT(local), ALWAYS, 0, 0, {0}},
    {"ca", TEXT, AT(ca), ALWAYS, 0, 0, {0}},
    {"crl", TEXT, AT(crl), "t", 0, 0, {0}},
    {"clientcert", CHOICE, AT(clientcert), "st", 0, 2, {"", "verify-ca", "verify-full"}},
    {"clientname", CHOICE, AT(clientname), "m", 1, 3, {"", "CN", "DN", "SAN"}},
    {"ident-map", TEXT, AT(ident_map), "m", 0, 0, {0}},
    {"map", TEXT, AT(map), "m", 0, 0, {0}},
    {"clientcert-expiry", BOOL, AT(clientcert_expiry), "st", 0, 1, {0}},
    {"gss", BOOL, AT(gss), "s", 0, 1, {0}},
    {"user", TEXT, AT(user), ALWAYS, 0, 0, {0}},
    {"group", TEXT, AT(group), ALWAYS, 0, 0, {0}},
    {"handshake-timeout", NUMBER, AT(handshake_timeout), ALWAYS, 1, 3600, {0}},
    {"connect-timeout", NUMBER, AT(connect_timeout), ALWAYS, 1, 3600, {0}},
    {"idle-timeout", NUMBER, AT(idle_timeout), ALWAYS, 0, INT_MAX / 1000, {0}},
    {"keepalive", NUMBER, AT(keepalive), ALWAYS, 0, 32767, {0}},
    {"spin", NUMBER, AT(spin), ALWAYS, 0, 1000, {0}},
    {"client", BOOL, AT(client), ALWAYS, 0, 1, {0}},
    {"sslmode", CHOICE, AT(sslmode), "c", 1, 3, {"", "require", "verify-ca", "verify-full"}},
    {"sslnegotiation", CHOICE, AT(sslnegotiation), "c", 0, 2, {"", "postgres", "direct"}},
    {"servername", TEXT, AT(servername), "c", 0, 0, {0}},
    {"listen", TEXT, AT(listen), ALWAYS, 0, 0, {0}},
    {"foreground", BOOL, AT(foreground), "l", 0, 1, {0}},
    {"max-connections", NUMBER, AT(max_connections), "l", 1, 100000, {0}},
    {"max-per-source", NUMBER, AT(max_per_source), "l", 1, 100000, {0}},
    {"grace", NUMBER, AT(grace), "l", 0, INT_MAX / 1000, {0}},
    {"idle-exit", NUMBER, AT(idle_exit), "l", 0, INT_MAX / 1000, {0}},
    {"proxy-protocol", BOOL, AT(proxy_protocol), "s", 0, 1, {0}},
    {"transparent", BOOL, AT(transparent), "s", 0, 1, {0}},
    {"application-name-host", BOOL, AT(application_name_host), "s", 0, 1, {0}},
    {"log", TEXT, AT(log), ALWAYS, 0, 0, {0}},
    {"debug", NUMBER, AT(debug), ALWAYS, 0, 7, {0}},
    {"service", TEXT, AT(service), ALWAYS, 0, 0, {0}},
    {"pidfile", TEXT, AT(pidfile), ALWAYS, 0, 0, {0}},
    {"sessions", TEXT, AT(sessions), ALWAYS, 0, 0, {0}},
    {"check", BOOL, AT(check), "s", 0, 1, {0}},
    {"help", BOOL, AT(help), ALWAYS, 0, 1, {0}},
    {"version", BOOL, AT(version), ALWAYS, 0, 1, {0}},
};
#define OPTIONS (sizeof manual / sizeof *manual)

/* The value of option `i`: a number, or a text. */
static int number_of(const struct options *o, size_t i)
{
	const char *at = (const char *)o + manual[i].at;

	return manual[i].type == BOOL ? *(const bool *)at : *(const int *)at;
}

static const char *text_of(const struct options *o, size_t i)
{
	return *(const char *const *)((const char *)o + manual[i].at);
}

static bool same_option(const struct options *a, const struct options *b, size_t i)
{
	return manual[i].type == TEXT ? same_text(text_of(a, i), text_of(b, i))
				      : number_of(a, i) == number_of(b, i);
}

static bool is_met(const struct options *o, char need)
{
	switch (need) {
	case 's':
		return !o->client;
	case 'c':
		return o->client;
	case 'l':
		return o->listen != NULL || o->inherited || o->check;
	case 'm':
		return o->clientcert == CLIENTCERT_VERIFY_FULL;
	default:
		return o->ca != NULL;
	}
}

/* Has an option a value that depends on others if it is not given? */
static bool is_derived(size_t i)
{
	return manual[i].at == AT(max_per_source) || manual[i].at == AT(idle_exit) ||
	       manual[i].at == AT(sslmode);
}

static void check_values(const struct options *o, const struct options *defaults)
{
	CHECK(o->cert[0] != NULL || (o->cert[1] == NULL && o->client));
	for (size_t i = 0; i < OPTIONS; i++) {
		if (manual[i].type == TEXT)
			CHECK(text_of(o, i) == NULL || text_of(o, i)[0] != '\0');
		else
			CHECK(number_of(o, i) >= manual[i].min && number_of(o, i) <= manual[i].max);
		for (const char *need = manual[i].needs; *need != '\0'; need++)
			CHECK(same_option(o, defaults, i) || is_derived(i) || is_met(o, *need));
	}
	/* "Options that exclude each other" */
	CHECK(o->key == NULL || o->cert[1] == NULL);
	CHECK((o->map == NULL) == (o->ident_map == NULL));
	CHECK(!o->gss || o->clientcert == CLIENTCERT_UNSET);
	CHECK(o->listen == NULL || !o->inherited);
	CHECK(!o->transparent || o->local == NULL);
	CHECK(!o->client || (o->connect[0] != '/' && o->cert[1] == NULL));
	CHECK(o->ca == NULL ? o->sslmode == SSLMODE_REQUIRE : o->sslmode != SSLMODE_REQUIRE);
	CHECK(!o->client || !same_text(o->ca, "system") || o->sslmode == SSLMODE_VERIFY_FULL);
}

struct words {
	int argc;
	char *argv[OPTIONS + 8], text[OPTIONS + 8][1200];
};

__attribute__((format(printf, 2, 3))) static void add_word(struct words *w, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(w->text[w->argc], sizeof w->text[0], fmt, args);
	va_end(args);
	w->argv[w->argc] = w->text[w->argc];
	w->argc++;
}

/* Write option `i`, which was given or has a default of its own. */
static void write_option(struct words *w, const struct options *o, size_t i)
{
	const char *word = manual[i].word;

	if (manual[i].type == BOOL)
		add_word(w, "--%s", word);
	else if (manual[i].type == NUMBER)
		add_word(w, "--%s=%d", word, number_of(o, i));
	else if (manual[i].type == TEXT)
		add_word(w, "--%s=%s", word, text_of(o, i));
	else
		add_word(w, "--%s=%s", word, manual[i].words[number_of(o, i)]);
}

static void check_written(const struct options *o, const struct options *defaults)
{
	static struct words w;
	struct options again;
	struct error e;

	w.argc = 0;
	add_word(&w, "pgssl");
	for (int i = 0; i < OPTIONS_CERTS; i++)
		if (o->cert[i] != NULL)
			add_word(&w, "--cert=%s", o->cert[i]);
	if (o->classic_verify != CLASSIC_UNSET)
		add_word(&w, "-v%d", (int)o->classic_verify - 1);
	for (size_t i = 0; i < OPTIONS; i++) {
		bool met = true;
		for (const char *need = manual[i].needs; *need != '\0'; need++)
			met = met && is_met(o, *need);
		if (manual[i].at == AT(clientcert) && o->classic_verify != CLASSIC_UNSET)
			continue;
		if (met && (is_derived(i) || !same_option(o, defaults, i)))
			write_option(&w, o, i);
	}
	w.argv[w.argc] = NULL;
	optind = 0;
	CHECK(options_parse(&again, w.argc, w.argv, o->inherited, &e));
	for (size_t i = 0; i < OPTIONS; i++)
		CHECK(same_option(o, &again, i));
	CHECK(same_text(o->cert[0], again.cert[0]) && same_text(o->cert[1], again.cert[1]));
	CHECK(o->classic_verify == again.classic_verify);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static char *none[] = {"pgssl", NULL};
	struct input in = {data, size};
	char word[WORDS_MAX][1024], *argv[WORDS_MAX + 1] = {"pgssl"};
	struct options o, defaults;
	struct error e = {.text = ""};
	int argc = 1;

	bool inherited = input_byte(&in) & 1;
	for (; in.left > 0 && argc < WORDS_MAX; argc++)
		argv[argc] = input_string(&in, word[argc], sizeof word[argc]);
	argv[argc] = NULL;
	optind = 0; /* start afresh; getopt() changes the order of argv */
	if (!options_parse(&o, argc, argv, inherited, &e)) {
		CHECK(e.status == EX_USAGE && e.text[0] != '\0');
		return 0;
	}
	optind = 0;
	CHECK(options_parse(&defaults, 1, none, false, &e));
	check_values(&o, &defaults);
	check_written(&o, &defaults);
	return 0;
}
