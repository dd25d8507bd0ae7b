/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/identmap.c - fuzz target: ident maps, against a model of PostgreSQL's reading and matching
 * (src/backend/libpq/hba.c: next_token, next_field_expand, tokenize_auth_file, parse_ident_line,
 * check_ident_usermap).
 *
 * The input is the certificate's name, a NUL, the user, a NUL, and the file; the map is m. A file
 * that pgssl takes must be valid to PostgreSQL, and both must decide the same. Regular expressions
 * are regcomp()'s in the model too: how the dialects differ is not tested here.
 *
 * sabotage: s/if (end <= joined || end/if (end <= s->line || end/ auth/identmap.c
 * sabotage: s/t->quoted = t->quoted || len == 0;/t->quoted = true;/ auth/identmap.c
 * sabotage: s/if (another .. .count <= FIELDS)/if (false)/ auth/identmap.c
 * sabotage: s/while (end > s->line .. end.-1. == '.r')/while (false)/ auth/identmap.c
 * sabotage: s/(!entry->quoted.USER. .. strcmp/(strcmp/ auth/identmap.c
 * sabotage: s/strcmp(user + before + len, mark + 2) == 0/strncmp(user + before + len, mark + 2, strlen(mark + 2)) == 0/ auth/identmap.c
 */
#include "auth/identmap.h"

#include <regex.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define TEXT_MAX        1024
#define REPETITIONS_MAX 4

enum { MAP, IDENTITY, USER, FIELDS };

/* The first value of each field of a line, and whether its first character was a quote. */
struct line_model {
	size_t fields;
	char text[FIELDS][TEXT_MAX + 1];
	bool quoted[FIELDS];
	bool bad;
};

enum decision { NO_MATCH, MATCH, ERROR };

static bool pg_isblank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static bool next_token(const char **lineptr, char *buf, bool *initial_quote, bool *comma)
{
	bool in_quote = false, was_quote = false, saw_quote = false;
	size_t len = 0;
	char c;

	*initial_quote = *comma = false;
	while ((c = *(*lineptr)++) != '\0' && (pg_isblank(c) || c == ','))
		;
	while (c != '\0' && (!pg_isblank(c) || in_quote)) {
		if (c == '#' && !in_quote) {
			while ((c = *(*lineptr)++) != '\0')
				;
			break;
		}
		if (c == ',' && !in_quote) {
			*comma = true;
			break;
		}
		if (c != '"' || was_quote)
			buf[len++] = c;
		was_quote = in_quote && c == '"' ? !was_quote : false;
		if (c == '"') {
			in_quote = !in_quote;
			saw_quote = true;
			*initial_quote |= len == 0;
		}
		c = *(*lineptr)++;
	}
	(*lineptr)--;
	buf[len] = '\0';
	return saw_quote || len > 0;
}

/* One field: its first value, and whether it has others. */
static bool next_field(const char **lineptr, struct line_model *l)
{
	char token[TEXT_MAX + 1];
	bool quoted, comma;
	unsigned values = 0;

	do {
		if (!next_token(lineptr, token, &quoted, &comma))
			break;
		l->bad |= !quoted && token[0] == '@' && token[1] != '\0'; /* a file */
		if (values++ == 0 && l->fields < FIELDS) {
			strcpy(l->text[l->fields], token);
			l->quoted[l->fields] = quoted;
		}
	} while (comma);
	l->bad |= values > 1 && l->fields < FIELDS; /* IDENT_MULTI_VALUE */
	return values > 0;
}

/* tokenize_auth_file(): join and cut a line. Returns the rest of the text. */
static const char *next_line(const char *text, char *buf)
{
	size_t len = 0, last_backslash = 0;

	while (*text != '\0') {
		while (*text != '\0' && *text != '\n')
			buf[len++] = *text++;
		text += *text == '\n';
		while (len > 0 && buf[len - 1] == '\r')
			len--;
		if (len <= last_backslash || buf[len - 1] != '\\')
			break;
		last_backslash = --len;
	}
	buf[len] = '\0';
	return text;
}

static void parse_line(const char *buf, struct line_model *l)
{
	l->fields = 0;
	l->bad = false;
	while (*buf != '\0')
		l->fields += next_field(&buf, l);
	l->bad |= l->fields > 0 && l->fields < FIELDS; /* IDENT_FIELD_ABSENT, or an include */
}

static bool regex_matches(const char *field, const char *text, regmatch_t match[2])
{
	regex_t regex;

	CHECK(regcomp(&regex, field + 1, REG_EXTENDED) == 0);
	bool fits = regexec(&regex, text, 2, match, 0) == 0;
	regfree(&regex);
	return fits;
}

/* check_role(), without group membership */
static bool check_role(const char *field, bool quoted, const char *user)
{
	regmatch_t match[2];

	if (!quoted && strcmp(field, "all") == 0)
		return true;
	if (field[0] == '/')
		return regex_matches(field, user, match);
	return strcmp(field, user) == 0;
}

static enum decision check_line(const struct line_model *l, const char *identity, const char *user)
{
	char expanded[2 * TEXT_MAX + 1];
	regmatch_t match[2] = {{-1, -1}, {-1, -1}};
	const char *field = l->text[USER], *ofs = strstr(field, "\\1");

	if (l->text[IDENTITY][0] != '/')
		return strcmp(l->text[IDENTITY], identity) == 0 &&
		       check_role(field, l->quoted[USER], user);
	if (!regex_matches(l->text[IDENTITY], identity, match))
		return NO_MATCH;
	if (field[0] == '/' || ofs == NULL)
		return check_role(field, l->quoted[USER], user);
	if (match[1].rm_so < 0)
		return ERROR;
	snprintf(expanded, sizeof expanded, "%.*s%.*s%s", (int)(ofs - field), field,
		 (int)(match[1].rm_eo - match[1].rm_so), identity + match[1].rm_so, ofs + 2);
	return strcmp(expanded, user) == 0;
}

/* check_usermap(): lines in turn, up to a match or an error. All lines must be valid. */
static bool allows(const char *text, const char *identity, const char *user)
{
	static struct line_model l;
	char buf[TEXT_MAX + 1];
	enum decision decision = NO_MATCH;

	while (*text != '\0') {
		text = next_line(text, buf);
		parse_line(buf, &l);
		CHECK(!l.bad);
		CHECK(l.fields == 0 || l.quoted[USER] || l.text[USER][0] != '+');
		if (decision == NO_MATCH && l.fields > 0 && strcmp(l.text[MAP], "m") == 0)
			decision = check_line(&l, identity, user);
	}
	return decision == MATCH;
}

/* Repetitions of repetitions take glibc gigabytes, or for ever. */
static bool is_costly(const char *text)
{
	unsigned repetitions = 0;

	for (const char *p = text; *p != '\0'; p++) {
		repetitions += strchr("*+?{", *p) != NULL;
		if (*p == '{' && strspn(p + 1, "0123456789,") > 1)
			return true;
	}
	return repetitions > REPETITIONS_MAX;
}

/* One file, which is made once. */
static const char *file_of(const unsigned char *bytes, size_t size)
{
	static char path[64];
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("map", 0);
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size)
		abort();
	return path;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct input in = {data, size};
	char identity[65], user[65], text[TEXT_MAX + 1];
	struct identmap *map;
	struct error e = {.text = ""};

	input_string(&in, identity, sizeof identity);
	input_string(&in, user, sizeof user);
	if (in.left > TEXT_MAX)
		return 0;
	snprintf(text, sizeof text, "%.*s", (int)in.left, (const char *)in.at);
	if (is_costly(text))
		return 0;
	if (!identmap_load(file_of(in.at, in.left), "m", true, &map, &e)) {
		CHECK(e.text[0] != '\0');
		return 0;
	}
	CHECK(strlen(text) == in.left); /* no NUL */
	bool allowed = identmap_allows(map, identity, user);
	CHECK(allowed == (identity[0] != '\0' && user[0] != '\0' && allows(text, identity, user)));
	identmap_free(map);
	return 0;
}
