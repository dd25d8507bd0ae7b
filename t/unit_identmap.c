/* SPDX-License-Identifier: ISC
 *
 * t/unit_identmap.c - ident maps: the syntax and matching of PostgreSQL 16 to 18, and which files
 * are refused.
 *
 * sabotage: auth/identmap.c s/groups == 1 /groups == 9 /
 * sabotage: auth/identmap.c s/return REFUSE;/return PASS;/
 * sabotage: auth/identmap.c s/(!entry->quoted\[USER\] \&\& strcmp/(strcmp/
 */
#include "auth/identmap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"

#define B(literal)   literal, sizeof(literal) - 1
#define COUNT(table) (sizeof(table) / sizeof *(table))
#define X10(s)       s s s s s s s s s s
#define X1024(s)     X10(X10(X10(s))) X10(s) X10(s) s s s s

static char directory[] = "/tmp/pgssl-identmap-XXXXXX", path[64];

static void write_file(const char *bytes, size_t len)
{
	FILE *f = fopen(path, "w");

	if (f == NULL || fwrite(bytes, 1, len, f) != len || fclose(f) != 0)
		abort();
}

/* Does map m in `text` allow `identity` to be `user`? */
static const struct match {
	const char *text, *identity, *user;
	bool allowed;
} matches[] = {
    {"m alice bob", "alice", "bob", true},
    {"m alice bob\n", "alice", "alice", false},
    {"m alice bob\n", "Alice", "bob", false},
    {"m alice bob\n", "alice", "Bob", false},
    {"m alice bob\n", "alice2", "bob", false},
    {"m alice bob\n", "alice", "bob2", false},
    {"x alice bob\nm a b\n", "alice", "bob", false},
    {"m a b\nm a c\nm d c\n", "a", "c", true},
    {"m a b\nm a c\nm d c\n", "d", "c", true},
    {"m a b\nm a c\nm d c\n", "d", "b", false},
    {"m a b\n", "", "b", false},
    {"m a b\n", "a", "", false},
    {"m \"\" b\n", "", "b", false},
    /* blanks, comments, line ends */
    {"# a comment\n\n  \t\n m\ta \t b # c\n", "a", "b", true},
    {"m a b#c\n", "a", "b", true},
    {"m a b\r\n", "a", "b", true},
    {"m a b\r\r\n\n", "a", "b", true},
    {"m\ra\rb\n", "a", "b", true},
    {"m a b c d,e\n", "a", "b", true},
    {"m a \x0b\n", "a", "\x0b", true},
    /* quotes */
    {"\"m\" \"CN=Alice Doe,O=X\" \"b\"\n", "CN=Alice Doe,O=X", "b", true},
    {"m \"a#b\" c\n", "a#b", "c", true},
    {"m \"a\"\"b\" c\n", "a\"b", "c", true},
    {"m \"\"\"\" c\n", "\"", "c", true},
    {"m a\" b\"c d\n", "a bc", "d", true},
    {"m a \"b c\n", "a", "b c", true},
    {"m a \"b\"c\"\n", "a", "bc", true},
    {"m \"@a\" b\n", "@a", "b", true},
    {"m @ b\n", "@", "b", true},
    {"m a@x b\n", "a@x", "b", true},
    {"m a\\b c\n", "a\\b", "c", true},
    /* commas */
    {"m ,a ,b\n", "a", "b", true},
    {"m a, \n\nm c d", "c", "d", false}, /* an error */
    {",m a b,\n", "a", "b", true},
    {"m a b c,d\n", "a", "b", true},
    /* continuation */
    {"m a \\\nb\n", "a", "b", true},
    {"m a b\\\nc\n", "a", "bc", true},
    {"m a \\\r\nb\n", "a", "b", true},
    {"m a \"b \\\nc\"\n", "a", "b c", true},
    {"# x \\\nm a b\nm c d\n", "a", "b", false},
    {"m a b\\", "a", "b", true},
    {"m a b \\\n\\\n\nm c d\n", "c", "d", true},
    {"m a b\\\\\n\nm c d\n", "a", "b\\", true},
    /* regular expressions */
    {"m /^(.*)@example\\.com$ \\1\n", "alice@example.com", "alice", true},
    {"m /^(.*)@example\\.com$ \\1\n", "alice@example.com", "bob", false},
    {"m /^(.*)@example\\.com$ \\1\n", "alice@example_com", "alice", false},
    {"m /^(.*)@example\\.com$ \\1\n", "alice@example.com.evil", "alice", false},
    {"m /^(.*)@example\\.com$ x\\1y\n", "alice@example.com", "xalicey", true},
    {"m /^(.*)@example\\.com$ x\\1y\n", "alice@example.com", "xalice", false},
    {"m /^(.*)@example\\.com$ x\\1y\n", "alice@example.com", "x", false},
    {"m /^(.*)@example\\.com$ x\\1y\n", "alice@example.com", "xalicey2", false},
    {"m /^(a)b$ \\1\\1\n", "ab", "a\\1", true},
    {"m /^(a)b$ \\1\\1\n", "ab", "aa", false},
    {"m /^(a)(b)$ \\2\n", "ab", "\\2", true},
    {"m /^()b$ x\\1\n", "b", "x", true},
    {"m /lic bob\n", "alice", "bob", true},
    {"m /^LIC bob\n", "lic", "bob", false},
    {"m / bob\n", "anything", "bob", true},
    {"m \"/^CN=(.*),O=X Y$\" \\1\n", "CN=al,O=X Y", "al", true},
    {"m /^a.$ b\n", "a\xc3", "b", true},
    {"m /^\xc3\xa9$ b\n", "\xc3\xa9", "b", true},
    {"m /^alice$ b\n", "alice\n", "b", false},
    {"m /^alice$ b\n", "x\nalice", "b", false},
    {"m \"/^[[:alpha:]]{2,3}$\" b\n", "abc", "b", true},
    {"m /^[]/]+$ b\n", "]/", "b", true},
    {"m /^[^x]+$ b\n", "abc", "b", true},
    {"m /^[^]x]+$ b\n", "a]c", "b", false},
    {"m /(a$)|b c\n", "xa", "c", true},
    {"m /a$|b c\n", "b", "c", true},
    {"m /^([a-z]+)(@x)?$ \\1\n", "al@x", "al", true},
    {"m \"/^(ab{2})+$\" c\n", "abbabb", "c", true},
    {"m /^(ab)+$ c\n", "abab", "c", true},
    {"m /^([a-z]+)(\\.[a-z]+)+$ \\1\n", "al.b.c", "al", true},
    {"m a \\1\n", "a", "\\1", true},
    /* the user: all and regular expressions */
    {"m a all\n", "a", "bob", true},
    {"m a all\n", "a", "all", true},
    {"m a all\n", "b", "bob", false},
    {"m a a\"ll\"\n", "a", "bob", true},
    {"m a \"all\"\n", "a", "bob", false},
    {"m a \"all\"\n", "a", "all", true},
    {"m a \"\"all\n", "a", "bob", false},
    {"m a ALL\n", "a", "bob", false},
    {"m a all2\n", "a", "bob", false},
    {"m /^(.*)@x$ all\n", "a@x", "bob", true},
    {"m /^(.*)@x$ all\n", "a@y", "bob", false},
    {"m /^(.*)$ \\1\n", "all", "bob", false},
    {"m /^(.*)$ \\1\n", "/.*", "bob", false},
    {"m /^(.*)$ +\\1\n", "a", "+a", false}, /* an error */
    {"m /^(.*)$ \"+\\1\"\n", "a", "+a", true},
    {"m a \"+staff\"\n", "a", "+staff", true},
    {"m a b+c\n", "a", "b+c", true},
    {"m a /^b\n", "a", "bob", true},
    {"m a /^b\n", "a", "alice", false},
    {"m a /^b\n", "c", "bob", false},
    {"m a \"/^b\"\n", "a", "bob", true},
    {"m a /\n", "a", "bob", true},
    {"m a /^b$\n", "a", "b\nc", false},
    {"m a /^x\nm a bob\n", "a", "bob", true},
    {"m /^(a)$ /^b\\\\1$\n", "a", "b\\1", true},
    {"m /^(a)$ /^b\\\\1$\n", "a", "ba", false},
    {"m /^(a)+$ /^b\n", "aa", "bob", true},
    /* an error ends the search, as in PostgreSQL */
    {"m /^a \\1\nm a b\n", "a", "b", false},
    {"m /^x \\1\nm a b\n", "a", "b", true},
    {"m a b\nm /^a \\1\n", "a", "b", true},
    {"m /^(x)|a$ \\1\nm a b\n", "a", "b", false},
};

/* The error that loading map m from these bytes must give. */
static const struct refusal {
	const char *text;
	size_t len;
	const char *says;
} refusals[] = {
    {B(""), "has no line for map \"m\""},
    {B("# m a b\n"), "has no line for map \"m\""},
    {B("x a b\nM a b\nmm a b\n"), "has no line for map \"m\""},
    {B("\"\" a b\n"), "has no line for map \"m\""},
    {B("m\n"), "line 1: missing entry"},
    {B("m a b\nx a\n"), "line 2: missing entry"},
    {B("m a b\nm a#b c\n"), "line 2: missing entry"},
    {B("m a b\n\n#\nx\n"), "line 4: missing entry"},
    {B("m a b\\\n\\\n\nx\n"), "line 4: missing entry"},
    {B("m a b\n x a \\\n # b\n"), "line 2: missing entry"},
    {B("m a,b c\n"), "line 1: multiple values in ident field"},
    {B("m a, b c\n"), "line 1: multiple values in ident field"},
    {B("m CN=a,O=b c\n"), "line 1: multiple values in ident field"},
    {B("m,x a b\n"), "line 1: multiple values in ident field"},
    {B("m a b,c\n"), "line 1: multiple values in ident field"},
    {B("m @file b\n"), "line 1: @FILE is not supported"},
    {B("m a b @\"file\"\n"), "line 1: @FILE is not supported"},
    {B("m a b\n\nm a\0 b\n"), "line 3: NUL byte"},
    {B("\xef\xbb\xbfm a b\n"), "line 1: byte-order mark"},
    {B("m a b\nx /( b\n"), "line 2: invalid regular expression \"(\""},
    {B("m /[a b\n"), "line 1: invalid regular expression \"[a\""},
    {B("m /[[:alpha b\n"), "line 1: invalid regular expression \"[[:alpha\""},
    {B("m /a\\ b\n"), "line 1: invalid regular expression"},
    {B("m \"/a{2\" b\n"), "line 1: invalid regular expression"},
    {B("m /a{2,1} b\n"), "line 1: multiple values"},
    {B("m \"/a{2,1}\" b\n"), "line 1: invalid regular expression"},
    {B("m /\\d b\n"), "backslash before a letter"},
    {B("m /(a)\\1 b\n"), "backslash before a letter"},
    {B("m /\\<a b\n"), "backslash before a letter"},
    {B("m /[\\w] b\n"), "within brackets"},
    {B("m /[\xc3\xa9] b\n"), "within brackets"},
    {B("m /\xc3\xa9+ b\n"), "without a single character"},
    {B("m /(?:a) b\n"), "without a single character"},
    {B("m /^(.*?)@ \\1\n"), "without a single character"},
    {B("m /***=a b\n"), "without a single character"},
    {B("m /a|*b b\n"), "without a single character"},
    {B("m /a{x} b\n"), "{ without a number"},
    {B("m \"/a{,2}\" b\n"), "{ without a number"},
    {B("m /a) b\n"), ") without ("},
    {B("m /a^b b\n"), "^ that is not at a beginning"},
    {B("m /a$b b\n"), "$ that is not at an end"},
    {B("m /(ab)+c \\1\n"), "group of \\1 repeated"},
    {B("m /(a)(|(b)*)+ \\1\n"), "a repeated group"},
    {B("m a b\nx a +staff\n"), "line 2: +role is not supported"},
    {B("m a +\n"), "line 1: +role"},
    {B("m a +\"staff\"\n"), "line 1: +role"},
    {B("m a /(\n"), "line 1: invalid regular expression \"(\""},
    {B("m a \"/(\"\n"), "line 1: invalid regular expression \"(\""},
    {B("m a /\\d\n"), "backslash before a letter"},
    {B("m /^(.*)$ /\\1\n"), "backslash before a letter"},
    {B("include other.conf\n"), "line 1: include is not supported"},
    {B("m a b\ninclude_dir d\n"), "line 2: include is not supported"},
};

/* compile: at once, or when it is asked. */
static void test_matches(bool compile)
{
	for (size_t i = 0; i < COUNT(matches); i++) {
		const struct match *row = &matches[i];
		struct identmap *map = NULL;
		struct error e;

		write_file(row->text, strlen(row->text));
		bool loaded = identmap_load(path, "m", compile, &map, &e);
		bool allowed = loaded && identmap_allows(map, row->identity, row->user);
		ok(allowed == row->allowed, "row %zu: %s", i,
		   row->allowed ? "allowed" : "not allowed");
		if (allowed != row->allowed)
			note("%s: %s", row->text, loaded ? "loaded" : e.text);
		identmap_free(map);
	}
}

static void refused(const char *name, int status, const char *says)
{
	struct identmap *map = NULL;
	struct error e = {.status = 0};

	ok(!identmap_try(path, "m", &e) && e.status == status && strstr(e.text, says) != NULL,
	   "refused by a process of its own: %s", name);
	e.status = 0;
	bool loaded = identmap_load(path, "m", true, &map, &e);
	if (!ok(!loaded && map == NULL && e.status == status && strstr(e.text, says) != NULL,
		"refused: %s", name))
		note("%s", loaded ? "it was accepted" : e.text);
	identmap_free(map);
}

static void test_refusals(void)
{
	for (size_t i = 0; i < COUNT(refusals); i++) {
		write_file(refusals[i].text, refusals[i].len);
		refused(refusals[i].says, EX_CONFIG, refusals[i].says);
	}
}

static void test_files(void)
{
	static char big[(1 << 20) + 1];

	memset(big, '\n', sizeof big);
	memcpy(big, "m a b", 5);
	write_file(big, sizeof big);
	refused("a file that is one byte too long", EX_CONFIG, "larger than 1 MiB");
	memset(big, 'a', sizeof big);
	memcpy(big, "m ", 2);
	write_file(big, 10300);
	refused("a token of 10298 bytes", EX_CONFIG, "line 1: authentication file token too long");
	if (unlink(path) != 0)
		abort();
	refused("a missing file", EX_NOINPUT, "could not open");
	if (mkdir(path, 0700) != 0)
		abort();
	refused("a directory", EX_NOINPUT, "not a regular file");
	if (rmdir(path) != 0 || mkfifo(path, 0600) != 0)
		abort();
	refused("a FIFO, without waiting for a writer", EX_NOINPUT, "not a regular file");
	if (unlink(path) != 0)
		abort();
}

static void test_long_names(void)
{
	static const char name[] = X1024("a") "a";
	struct identmap *map = NULL;
	struct error e;

	write_file(B("m /^a+$ b\n"));
	if (!ok(identmap_load(path, "m", true, &map, &e), "a map for long names"))
		return;
	ok(identmap_allows(map, name + 1, "b"), "a name of 1024 bytes is matched");
	ok(!identmap_allows(map, name, "b"), "a name of 1025 bytes is not");
	identmap_free(map);
}

int main(void)
{
	if (mkdtemp(directory) == NULL)
		return 1;
	log_open(open("/dev/null", O_WRONLY), false, "unit", LOG_DEBUG);
	snprintf(path, sizeof path, "%s/map", directory);
	test_matches(true);
	test_matches(false);
	test_refusals();
	test_long_names();
	test_files();
	rmdir(directory);
	return done_testing();
}
