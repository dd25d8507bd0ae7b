/* SPDX-License-Identifier: ISC
 *
 * auth/identmap.c - pg_ident.conf maps, read in step 3 and asked in step 8.
 *
 * The file is the operator's and trusted; the certificate's name that is matched against it is a stranger's, though one that our CA signed. glibc's
 * matcher is exponential in back-references (\1 within an expression), so they are refused when the file is read, and the length of a name is
 * bounded. Groups that nest repetitions can still be slow to compile and to match: the time is that of one process, before any backend is taken.
 */
#include "auth/identmap.h"

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/identregex.h"

enum {
	FILE_LIMIT = 1 << 20, /* bytes; a line has no limit of its own, as in PostgreSQL since 14 */
	TOKEN_LIMIT = 10240,  /* PostgreSQL's MAX_TOKEN, NUL included */
	IDENTITY_LIMIT =
	    1024, /* bytes of a certificate's name that a regular expression may have to look at */
	FIELDS = 3, /* map, certificate's name, user; PostgreSQL passes over what follows them */
};

/* One line of the map that was asked for. A list, since a regex_t must not be moved. */
struct entry {
	struct entry *next;
	unsigned line;
	char *identity;
	char *user;
	bool is_regex;
	regex_t regex;
};

struct identmap {
	char *file;
	struct entry *first, **end;
};

/* The text of a file, and where in it we are. */
struct source {
	const char *file;
	char *text;
	size_t len, at;
	char *line;      /* the joined line; as large as the text */
	unsigned number; /* of the first of its lines, from 1 */
	unsigned next;
};

static bool fail_line(const struct source *s, struct error *e, const char *what)
{
	return fail(e, EX_CONFIG, "\"%.200s\" line %u: %s", s->file, s->number, what);
}

static bool fail_memory(struct error *e)
{
	return fail(e, EX_OSERR, "out of memory while reading the ident map");
}

/* Reading the file */

static bool read_open(int fd, struct source *s, struct error *e)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return fail(e, EX_NOINPUT, "could not read ident map \"%.200s\": %s", s->file,
			    strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail(e, EX_NOINPUT, "ident map \"%.200s\" is not a regular file", s->file);
	s->text = malloc(FILE_LIMIT + 1);
	s->line = malloc(FILE_LIMIT + 1);
	if (s->text == NULL || s->line == NULL)
		return fail_memory(e);
	while (s->len <= FILE_LIMIT &&
	       (n = read(fd, s->text + s->len, FILE_LIMIT + 1 - s->len)) != 0) {
		if (n < 0 && errno != EINTR)
			return fail(e, EX_NOINPUT, "could not read ident map \"%.200s\": %s",
				    s->file, strerror(errno));
		if (n > 0)
			s->len += (size_t)n;
	}
	if (s->len > FILE_LIMIT)
		return fail(e, EX_CONFIG, "ident map \"%.200s\" is larger than 1 MiB", s->file);
	return true;
}

/* O_NONBLOCK: opening a named pipe would wait for its writer. */
static bool read_file(struct source *s, struct error *e)
{
	int fd = open(s->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	bool good;

	if (fd < 0)
		return fail(e, EX_NOINPUT, "could not open ident map \"%.200s\": %s", s->file,
			    strerror(errno));
	good = read_open(fd, s, e);
	close(fd);
	return good;
}

static unsigned lines_before(const char *text, const char *end)
{
	unsigned n = 0;

	for (; text < end; text++)
		n += *text == '\n';
	return n;
}

/* What PostgreSQL would take silently and not as meant: a NUL hides the rest of its line, a byte-order mark becomes part of the first map's name. */
static bool check_text(struct source *s, struct error *e)
{
	const char *nul = memchr(s->text, '\0', s->len);

	s->number = 1;
	if (s->len >= 3 && memcmp(s->text, "\xef\xbb\xbf", 3) == 0)
		return fail_line(s, e, "byte-order mark: save the file without one");
	if (nul == NULL)
		return true;
	s->number += lines_before(s->text, nul);
	return fail_line(s, e, "NUL byte: the file is no text");
}

/* The next line, continued by backslashes; false at the end of the file. Quoted text goes on over a continuation, too. */
static bool next_line(struct source *s)
{
	size_t len = 0, joined = 0;

	if (s->at >= s->len)
		return false;
	s->number = s->next;
	while (s->at < s->len) {
		const char *from = s->text + s->at, *newline = memchr(from, '\n', s->len - s->at);
		size_t n = newline == NULL ? s->len - s->at : (size_t)(newline - from) + 1;

		memcpy(s->line + len, from, n);
		len += n;
		s->at += n;
		s->next++;
		while (len > 0 && (s->line[len - 1] == '\n' || s->line[len - 1] == '\r'))
			len--;
		/* A backslash before the place where lines were last joined has done its work. */
		if (len <= joined || s->line[len - 1] != '\\')
			break;
		joined = --len;
	}
	s->line[len] = '\0';
	return true;
}

/* From lines to fields */

struct token {
	char text[TOKEN_LIMIT];
	bool quoted; /* its first character was */
	bool comma;  /* another value of the same field follows */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/*
 * Take a token off *at. Quotes may stand within a token (a"b c"d is one); "" within quotes is a quote; a quote that nobody closes ends with the
 * line. -1: too long, 0: no more, 1: there it is, perhaps empty ("").
 */
static int next_token(const char **at, struct token *t)
{
	const char *p = *at;
	size_t len = 0;
	bool in_quotes = false, any = false;

	t->quoted = t->comma = false;
	while (is_blank(*p) || *p == ',')
		p++;
	for (; *p != '\0' && (in_quotes || !is_blank(*p)); p++) {
		if (*p == '#' && !in_quotes) {
			p += strlen(p);
			break;
		}
		if (*p == ',' && !in_quotes) {
			t->comma = true;
			break;
		}
		if (*p == '"' && !(in_quotes && p[1] == '"')) {
			in_quotes = !in_quotes;
			any = true;
			t->quoted = t->quoted || len == 0;
			continue;
		}
		if (len == TOKEN_LIMIT - 1)
			return -1;
		p += *p == '"';
		t->text[len++] = *p;
	}
	t->text[len] = '\0';
	*at = p;
	return any || len > 0;
}

/* The first three fields, each the caller's to free. Tokens that a comma joins are one field of several values, which no field of ours may be. */
struct fields {
	char *word[FIELDS];
	unsigned count;
};

static bool split(const struct source *s, struct fields *f, struct error *e)
{
	const char *at = s->line;
	struct token t = {.comma = false};
	bool another = false; /* value of the last field */
	int found;

	while ((found = next_token(&at, &t)) > 0) {
		if (!t.quoted && t.text[0] == '@' && t.text[1] != '\0')
			return fail_line(s, e,
					 "@FILE is not supported: quote a name that begins with @");
		if (another && f->count <= FIELDS)
			return fail_line(
			    s, e,
			    "multiple values in ident field: quote a name that has a comma in it");
		if (!another && f->count++ < FIELDS &&
		    (f->word[f->count - 1] = strdup(t.text)) == NULL)
			return fail_memory(e);
		another = t.comma;
	}
	if (found < 0)
		return fail_line(s, e, "authentication file token too long");
	if (f->count > 0 && f->count < FIELDS)
		return fail_line(s, e,
				 "missing entry at end of line: it takes map, certificate's name, "
				 "PostgreSQL user");
	return true;
}

/* Regular expressions */

static bool compile(const struct source *s, const char *regex, bool captures, regex_t *compiled,
		    struct error *e)
{
	const char *doubt = identregex_ambiguous(regex, captures);
	char why[128];
	int r;

	if (doubt != NULL)
		return fail(e, EX_CONFIG,
			    "\"%.200s\" line %u: regular expression \"%.100s\" would mean another "
			    "thing to PostgreSQL: %s",
			    s->file, s->number, regex, doubt);
	r = regcomp(compiled, regex, REG_EXTENDED);
	if (r == 0)
		return true;
	regerror(r, compiled, why, sizeof why);
	return fail(e, EX_CONFIG, "\"%.200s\" line %u: invalid regular expression \"%.100s\": %s",
		    s->file, s->number, regex, why);
}

/* The map */

static void entry_free(struct entry *entry)
{
	if (entry == NULL)
		return;
	if (entry->is_regex)
		regfree(&entry->regex);
	free(entry->identity);
	free(entry->user);
	free(entry);
}

/* The entry for a line, or NULL. Takes its words out of `f`. */
static struct entry *entry_make(const struct source *s, struct fields *f, struct error *e)
{
	struct entry *entry = calloc(1, sizeof *entry);

	if (entry == NULL) {
		(void)fail_memory(e);
		return NULL;
	}
	entry->line = s->number;
	entry->identity = f->word[1];
	entry->user = f->word[2];
	f->word[1] = f->word[2] = NULL;
	if (entry->identity[0] != '/')
		return entry;
	entry->is_regex =
	    compile(s, entry->identity + 1, strstr(entry->user, "\\1") != NULL, &entry->regex, e);
	if (entry->is_regex)
		return entry;
	entry_free(entry);
	return NULL;
}

/* A line of any map is checked; one of ours is kept. */
static bool add_line(const struct source *s, struct fields *f, const char *name,
		     struct identmap *map, struct error *e)
{
	struct entry *entry;

	if (f->count == 0)
		return true;
	entry = entry_make(s, f, e);
	if (entry == NULL)
		return false;
	if (strcmp(f->word[0], name) != 0) {
		entry_free(entry);
		return true;
	}
	*map->end = entry;
	map->end = &entry->next;
	return true;
}

static bool read_lines(struct source *s, const char *name, struct identmap *map, struct error *e)
{
	s->next = 1;
	map->end = &map->first;
	while (next_line(s)) {
		struct fields f = {.count = 0};
		bool good = split(s, &f, e) && add_line(s, &f, name, map, e);

		for (int i = 0; i < FIELDS; i++)
			free(f.word[i]);
		if (!good)
			return false;
	}
	if (map->first == NULL)
		return fail(e, EX_CONFIG,
			    "\"%.200s\" has no line of map \"%.64s\": add one, or correct --map",
			    s->file, name);
	return true;
}

bool identmap_load(const char *file, const char *name, struct identmap **map, struct error *e)
{
	struct source s = {.file = file};
	struct identmap *m = calloc(1, sizeof *m);
	bool good = m != NULL && (m->file = strdup(file)) != NULL;

	good = good || fail_memory(e);
	good = good && read_file(&s, e) && check_text(&s, e) && read_lines(&s, name, m, e);
	free(s.text);
	free(s.line);
	if (!good) {
		identmap_free(m);
		return false;
	}
	*map = m;
	return true;
}

void identmap_free(struct identmap *map)
{
	if (map == NULL)
		return;
	for (struct entry *entry = map->first, *next; entry != NULL; entry = next) {
		next = entry->next;
		entry_free(entry);
	}
	free(map->file);
	free(map);
}

/* Asking it */

enum verdict {
	PASS, /* ask the next line */
	ALLOW,
	REFUSE, /* and no later line may say otherwise: PostgreSQL stops at an error, too */
};

/* Is `user` the user of `entry` with its first \1, at `mark`, replaced by the match? */
static bool substituted(const struct entry *entry, const char *mark, const char *match, size_t len,
			const char *user)
{
	size_t before = (size_t)(mark - entry->user);

	return strncmp(user, entry->user, before) == 0 && strncmp(user + before, match, len) == 0 &&
	       strcmp(user + before + len, mark + 2) == 0;
}

static enum verdict ask_regex(const struct identmap *map, const struct entry *entry,
			      const char *identity, const char *user)
{
	const char *mark = strstr(entry->user, "\\1");
	regmatch_t match[2];
	int r = regexec(&entry->regex, identity, mark == NULL ? 0 : 2, match, 0);

	if (r == REG_NOMATCH)
		return PASS;
	if (r != 0) {
		log_peer_line(LOG_WARNING, "\"%s\" line %u: regular expression match failed",
			      map->file, entry->line);
		return REFUSE;
	}
	if (mark == NULL)
		return strcmp(entry->user, user) == 0 ? ALLOW : PASS;
	if (match[1].rm_so < 0) {
		log_peer_line(LOG_WARNING,
			      "\"%s\" line %u: regular expression \"%s\" has no subexpressions as "
			      "requested by "
			      "backreference in \"%s\"",
			      map->file, entry->line, entry->identity + 1, entry->user);
		return REFUSE;
	}
	size_t len = (size_t)(match[1].rm_eo - match[1].rm_so);
	return substituted(entry, mark, identity + match[1].rm_so, len, user) ? ALLOW : PASS;
}

bool identmap_allows(const struct identmap *map, const char *identity, const char *user)
{
	if (identity[0] == '\0' || user[0] == '\0' || strlen(identity) > IDENTITY_LIMIT)
		return false;
	for (const struct entry *entry = map->first; entry != NULL; entry = entry->next) {
		enum verdict verdict = PASS;

		if (entry->is_regex)
			verdict = ask_regex(map, entry, identity, user);
		else if (strcmp(entry->identity, identity) == 0 && strcmp(entry->user, user) == 0)
			verdict = ALLOW;
		if (verdict != PASS)
			return verdict == ALLOW;
	}
	return false;
}
