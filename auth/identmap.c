/* SPDX-License-Identifier: ISC
 *
 * auth/identmap.c - pg_ident.conf maps, read in step 3 and used in step 8.
 *
 * The file is the operator's and trusted. The name that is matched comes from a certificate that
 * our CA signed, but its owner chose it. glibc's matcher is exponential in back-references (\1
 * within an expression), so these are refused when the file is read, and the length of a name is
 * bounded. Nested repetitions can still be slow; they cost one process its time, before any backend
 * is taken.
 */
#include "auth/identmap.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	FILE_LIMIT = 1 << 20,  /* bytes; a line has no limit, as in PostgreSQL since 14 */
	TOKEN_LIMIT = 10240,   /* PostgreSQL's MAX_TOKEN, NUL included */
	IDENTITY_LIMIT = 1024, /* bytes of a name that an expression may have to match */
};

/* The fields of a line. Like PostgreSQL, ignore further ones. */
enum { MAP, IDENTITY, USER, FIELDS };

/* One line. In a list, since a regex_t must not be moved. */
struct entry {
	struct entry *next;
	unsigned line;
	char *field[FIELDS];
	bool quoted[FIELDS];   /* its first character was: no keyword */
	bool is_regex[FIELDS]; /* of IDENTITY and USER */
	regex_t regex[FIELDS];
};

struct identmap {
	char *file;
	struct entry *first, **end;
};

/* The text of a file, and the position in it. */
struct source {
	const char *file;
	char *text, *at, *line;
	size_t len;
	unsigned number, next; /* of `line`, from 1, and of the one at `at` */
	bool compile;
};

static bool fail_line(const struct source *s, struct error *e, const char *what)
{
	return fail(e, EX_CONFIG, "\"%.200s\" line %u: %s", s->file, s->number, what);
}

static bool fail_memory(struct error *e)
{
	return fail(e, EX_OSERR, "out of memory while reading the ident map");
}

static bool fail_file(const struct source *s, struct error *e, const char *verb)
{
	return errno == ENOMEM ? fail_memory(e)
			       : fail(e, EX_NOINPUT, "could not %s ident map \"%.200s\": %s", verb,
				      s->file, strerror(errno));
}

/* ---- reading the file ---- */

/* Read the file, or up to a NUL. O_NONBLOCK: opening a named pipe would wait for its writer. */
static bool read_text(struct source *s, struct error *e)
{
	int fd = open(s->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	struct stat st;
	size_t size = 0;

	if (f == NULL || fstat(fd, &st) < 0)
		return fail_file(s, e, "open");
	bool usable = S_ISREG(st.st_mode) && st.st_size <= FILE_LIMIT;
	ssize_t n = usable ? getdelim(&s->text, &size, '\0', f) : 0;
	/* getdelim() returns what there was before an error. */
	bool good = (ferror(f) == 0 && (n >= 0 || feof(f))) || fail_file(s, e, "read");
	fclose(f);
	if (!usable)
		return fail(e, S_ISREG(st.st_mode) ? EX_CONFIG : EX_NOINPUT,
			    "ident map \"%.200s\" %s", s->file,
			    S_ISREG(st.st_mode) ? "is larger than 1 MiB" : "is not a regular file");
	s->at = n < 0 ? "" : s->text;
	s->len = n < 0 ? 0 : (size_t)n;
	return good;
}

/* PostgreSQL takes these silently and not as meant: a NUL hides the rest of its line, a byte-order
 * mark becomes part of the first map's name. */
static bool check_text(struct source *s, struct error *e)
{
	s->number = 1;
	if (strncmp(s->at, "\xef\xbb\xbf", 3) == 0)
		return fail_line(s, e, "byte-order mark: save the file without one");
	if (strlen(s->at) == s->len)
		return true;
	for (const char *p = s->at; *p != '\0'; p++)
		s->number += *p == '\n';
	return fail_line(s, e, "NUL byte: not a text file");
}

/* Read the next line, joined in place with those that backslashes continue it with; quotes stay
 * open over a continuation. False at the end of the file. */
static bool next_line(struct source *s)
{
	char *end = s->at, *joined = s->at;

	if (*s->at == '\0')
		return false;
	s->line = s->at;
	s->number = s->next;
	while (*s->at != '\0') {
		size_t n = strcspn(s->at, "\n");

		memmove(end, s->at, n);
		end += n;
		s->at += n + (s->at[n] == '\n');
		s->next++;
		while (end > s->line && end[-1] == '\r')
			end--;
		/* A backslash before the last joint was used for that. */
		if (end <= joined || end[-1] != '\\')
			break;
		joined = --end;
	}
	*end = '\0';
	return true;
}

/* ---- from lines to fields ---- */

struct token {
	char text[TOKEN_LIMIT];
	bool quoted; /* its first character was */
	bool comma;  /* another value of the same field follows */
};

/*
 * Take a token off *at. Quotes may stand within a token (a"b c"d is one); "" within quotes is a
 * quote; an unclosed quote ends with the line. -1: too long, 0: none left, 1: a token, perhaps
 * empty.
 */
static int next_token(const char **at, struct token *t)
{
	const char *p = *at + strspn(*at, " \t\r,");
	size_t len = 0;
	bool in_quotes = false, any = false;

	t->quoted = false;
	for (; *p != '\0' && (in_quotes || strchr(" \t\r,#", *p) == NULL); p++) {
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
	t->comma = *p == ',';
	*at = *p == '#' ? p + strlen(p) : p;
	return any || len > 0;
}

/*
 * Fill in the fields, which are the caller's to free; *count is 0 for a blank line. Tokens joined
 * by a comma are one field with several values, which no field here may have.
 */
static bool split_line(const struct source *s, struct entry *entry, unsigned *count,
		       struct error *e)
{
	char **field = entry->field;
	const char *at = s->line;
	struct token t = {.comma = false};
	bool another = false; /* value of the last field */
	int found;

	while ((found = next_token(&at, &t)) > 0) {
		if (!t.quoted && t.text[0] == '@' && t.text[1] != '\0')
			return fail_line(s, e,
					 "@FILE is not supported: quote a name that begins with @");
		if (another && *count <= FIELDS)
			return fail_line(
			    s, e, "multiple values in ident field: quote a name that has a comma");
		if (!another && (*count)++ < FIELDS) {
			entry->quoted[*count - 1] = t.quoted;
			if ((field[*count - 1] = strdup(t.text)) == NULL)
				return fail_memory(e);
		}
		another = t.comma;
	}
	if (found < 0)
		return fail_line(s, e, "authentication file token too long");
	if (*count == 2 && strncmp(field[MAP], "include", strlen("include")) == 0)
		return fail_line(s, e, "include is not supported: copy the lines of that file");
	if (*count > 0 && *count < FIELDS)
		return fail_line(s, e,
				 "missing entry at end of line: expected map, certificate's name, "
				 "PostgreSQL user");
	return true;
}

/*
 * ---- regular expressions ----
 *
 * regcomp(3) takes \d for d, reads .*? as greedy and \1 as a back-reference. A map copied from
 * PostgreSQL must not quietly admit others here, so what the two read differently is refused. The
 * rules were found by trying both on 150,000 random expressions. Malformed ones are left to
 * regcomp.
 */

/* The ']' of the bracket expression that begins at `p`, or NULL. Sets *odd if PostgreSQL reads a
 * byte in it differently. */
static const char *bracket_end(const char *p, bool *odd)
{
	p += p[1] == '^' ? 2 : 1;
	for (const char *first = p; *p != '\0'; p++) {
		if (*p == ']' && p != first)
			return p;
		if (*p == '\\' || (unsigned char)*p >= 0x80)
			*odd = true;
		if (*p == '[' && p[1] != '\0' && strchr(".:=", p[1]) != NULL) {
			const char close[] = {p[1], ']', '\0'};
			if ((p = strstr(p + 2, close)) == NULL)
				return NULL;
			p++;
		}
	}
	return NULL;
}

/* What precedes a character of a regular expression. */
enum before { BEGIN, ATOM, GROUP, FIRST_GROUP, OTHER };

/* A character of several bytes cannot be repeated: only its last byte would be. */
static enum before before_next(char c)
{
	return (unsigned char)c < 0x80 ? ATOM : OTHER;
}

static const char *escape_doubt(const char *p)
{
	if (!isalnum((unsigned char)p[1]) && (p[1] == '\0' || strchr("<>`'", p[1]) == NULL))
		return NULL;
	return "backslash before a letter, digit, <, >, ` or '; write [0-9] for \\d, "
	       "[[:alnum:]_] for \\w";
}

/* glibc lets anchors in the middle match at a line break. */
static const char *anchor_doubt(const char *p, enum before before)
{
	if (*p == '^' && before != BEGIN)
		return "^ that is not at a beginning";
	if (*p == '$' && p[1] != '\0' && strchr(")|", p[1]) == NULL)
		return "$ that is not at an end";
	return NULL;
}

static const char *repeat_doubt(const char *p, enum before before, bool captures)
{
	if (*p == '{' && !isdigit((unsigned char)p[1]))
		return "{ without a number after it; write \\{ for the character";
	if (before == BEGIN || before == OTHER)
		return "*, +, ? or { without a single character or a group before it";
	if (before == FIRST_GROUP && captures)
		return "the group of \\1 repeated; put the repetition within its parentheses";
	/* glibc 2.36 never returns from looking for the groups of expressions like ((a|)*b)*. */
	if (before == GROUP && captures && *p != '?')
		return "a repeated group with a group, |, * or ? in it, while \\1 is used";
	return NULL;
}

/* What PostgreSQL would read differently, or NULL. `captures`: the first group's match is used. */
static const char *regex_doubt(const char *regex, bool captures)
{
	enum before before = BEGIN;
	int depth = 0, groups = 0; /* groups: closed ones outside of any other */
	bool odd = false;
	bool plain = false; /* since the last parenthesis only characters, + and counts */
	const char *doubt = NULL;

	for (const char *p = regex; *p != '\0' && doubt == NULL; p++) {
		switch (*p) {
		case '\\':
			doubt = escape_doubt(p);
			p += p[1] != '\0';
			before = before_next(*p);
			break;
		case '[':
			p = bracket_end(p, &odd);
			if (odd)
				return "backslash or a character that is not ASCII within brackets";
			if (p == NULL)
				return NULL; /* regcomp says why */
			before = ATOM;
			break;
		case '(':
		case '|':
			depth += *p == '(';
			plain = *p == '(';
			before = BEGIN;
			break;
		case ')':
			if (--depth < 0)
				return ") without ("; /* glibc takes it for a character */
			groups += depth == 0;
			before = depth == 0 && groups == 1  ? FIRST_GROUP
				 : plain && before != BEGIN ? ATOM
							    : GROUP;
			plain = false;
			break;
		case '^':
		case '$':
			doubt = anchor_doubt(p, before);
			before = OTHER;
			break;
		case '{':
		case '*':
		case '+':
		case '?':
			doubt = repeat_doubt(p, before, captures);
			before = OTHER;
			plain = plain && (*p == '+' || (*p == '{' && p[1] != '0'));
			p += *p == '{' ? strcspn(p, "}") : 0;
			if (*p == '\0')
				return doubt; /* or regcomp says why */
			break;
		default:
			before = before_next(*p);
		}
	}
	return doubt;
}

/* The first \1 in the user, a reference to the match of the first group, or NULL. */
static const char *back_reference(const struct entry *entry)
{
	return entry->field[USER][0] == '/' ? NULL : strstr(entry->field[USER], "\\1");
}

/* A field that begins with a slash, even in quotes, is a regular expression. */
static bool compile_field(const struct source *s, struct entry *entry, int i, struct error *e)
{
	const char *regex = entry->field[i] + 1;
	char why[128];

	if (entry->field[i][0] != '/' || entry->is_regex[i])
		return true;
	const char *doubt = regex_doubt(regex, i == IDENTITY && back_reference(entry) != NULL);
	if (doubt != NULL)
		return fail(e, EX_CONFIG,
			    "\"%.200s\" line %u: regular expression \"%.100s\" means something "
			    "else to PostgreSQL: %s",
			    s->file, s->number, regex, doubt);
	if (!s->compile)
		return true;
	int r = regcomp(&entry->regex[i], regex, REG_EXTENDED);
	entry->is_regex[i] = r == 0;
	if (r == 0)
		return true;
	if (r == REG_ESPACE)
		return fail_memory(e);
	regerror(r, &entry->regex[i], why, sizeof why);
	return fail(e, EX_CONFIG, "\"%.200s\" line %u: invalid regular expression \"%.100s\": %s",
		    s->file, s->number, regex, why);
}

static bool compile_line(const struct source *s, struct entry *entry, struct error *e)
{
	if (!entry->quoted[USER] && entry->field[USER][0] == '+')
		return fail_line(s, e,
				 "+role is not supported: list its members, or quote a user name "
				 "that begins with +");
	return compile_field(s, entry, IDENTITY, e) && compile_field(s, entry, USER, e);
}

/* ---- the map ---- */

static void free_entry(struct entry *entry)
{
	if (entry == NULL)
		return;
	for (int i = 0; i < FIELDS; i++) {
		if (entry->is_regex[i])
			regfree(&entry->regex[i]);
		free(entry->field[i]);
	}
	free(entry);
}

/* Check a line of any map; keep one of map `name`. */
static bool add_line(const struct source *s, const char *name, struct identmap *map,
		     struct error *e)
{
	struct entry *entry = calloc(1, sizeof *entry);
	unsigned count = 0;
	bool good = entry != NULL ? split_line(s, entry, &count, e) : fail_memory(e);

	if (good && count > 0)
		good = compile_line(s, entry, e);
	if (!good || count == 0 || strcmp(entry->field[MAP], name) != 0) {
		free_entry(entry);
		return good;
	}
	entry->line = s->number;
	*map->end = entry;
	map->end = &entry->next;
	return true;
}

static bool read_lines(struct source *s, const char *name, struct identmap *map, struct error *e)
{
	s->next = 1;
	map->end = &map->first;
	while (next_line(s))
		if (!add_line(s, name, map, e))
			return false;
	if (map->first == NULL)
		return fail(e, EX_CONFIG,
			    "\"%.200s\" has no line for map \"%.64s\": add one, or correct --map",
			    s->file, name);
	return true;
}

bool identmap_load(const char *file, const char *name, bool compile, struct identmap **map,
		   struct error *e)
{
	struct source s = {.file = file, .compile = compile};
	struct identmap *m = calloc(1, sizeof *m);
	bool good = m != NULL && (m->file = strdup(file)) != NULL;

	good = good || fail_memory(e);
	good = good && read_text(&s, e) && check_text(&s, e) && read_lines(&s, name, m, e);
	free(s.text);
	if (good)
		*map = m;
	else
		identmap_free(m);
	return good;
}

static noreturn void try_in_child(const char *file, const char *name, int out)
{
	struct identmap *map;
	struct error e = {.status = 0};

	if (!identmap_load(file, name, true, &map, &e))
		(void)!write(out, &e, sizeof e);
	_exit(e.status);
}

bool identmap_try(const char *file, const char *name, struct error *e)
{
	int ends[2] = {-1, -1}, status = 0;
	pid_t pid = pipe2(ends, O_CLOEXEC) == 0 ? fork() : -1;

	if (pid == 0)
		try_in_child(file, name, ends[1]);
	if (pid < 0) {
		(void)fail(e, EX_OSERR, "could not start a process for \"%.200s\": %s", file,
			   strerror(errno));
		close(ends[0]);
		close(ends[1]);
		return false;
	}
	close(ends[1]);
	ssize_t n = read(ends[0], e, sizeof *e);
	close(ends[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		return fail(e, EX_SOFTWARE,
			    "the process that loaded \"%.200s\" was terminated by signal %d", file,
			    WTERMSIG(status));
	if (WEXITSTATUS(status) == 0 || n == sizeof *e)
		return WEXITSTATUS(status) == 0;
	return fail_memory(e);
}

void identmap_free(struct identmap *map)
{
	if (map == NULL)
		return;
	for (struct entry *entry = map->first, *next; entry != NULL; entry = next) {
		next = entry->next;
		free_entry(entry);
	}
	free(map->file);
	free(map);
}

/* ---- asking it ---- */

enum verdict {
	PASS, /* ask the next line */
	ALLOW,
	REFUSE, /* and ask no further line: PostgreSQL stops at an error, too */
};

/* Is `user` the user field of `entry` with its first \1, at `mark`, replaced by `match`? */
static bool substituted(const struct entry *entry, const char *mark, const char *match, size_t len,
			const char *user)
{
	size_t before = (size_t)(mark - entry->field[USER]);

	return strncmp(user, entry->field[USER], before) == 0 &&
	       strncmp(user + before, match, len) == 0 &&
	       strcmp(user + before + len, mark + 2) == 0;
}

/* Is `user` a user of this line, in which no \1 is to be replaced? */
static bool is_user(const struct entry *entry, const char *user)
{
	if (entry->is_regex[USER])
		return regexec(&entry->regex[USER], user, 0, NULL, 0) == 0;
	return (!entry->quoted[USER] && strcmp(entry->field[USER], "all") == 0) ||
	       strcmp(entry->field[USER], user) == 0;
}

static enum verdict ask_entry(const struct identmap *map, const struct entry *entry,
			      const char *identity, const char *user)
{
	const char *mark = back_reference(entry);
	regmatch_t match[2];

	if (!entry->is_regex[IDENTITY])
		return strcmp(entry->field[IDENTITY], identity) == 0 && is_user(entry, user) ? ALLOW
											     : PASS;
	int r = regexec(&entry->regex[IDENTITY], identity, mark == NULL ? 0 : 2, match, 0);
	if (r == REG_NOMATCH)
		return PASS;
	if (r != 0) {
		log_peer_line(LOG_WARNING, "\"%s\" line %u: regular expression match failed",
			      map->file, entry->line);
		return REFUSE;
	}
	if (mark == NULL)
		return is_user(entry, user) ? ALLOW : PASS;
	if (match[1].rm_so < 0) {
		log_peer_line(LOG_WARNING,
			      "\"%s\" line %u: regular expression \"%s\" has no subexpressions as "
			      "requested by backreference in \"%s\"",
			      map->file, entry->line, entry->field[IDENTITY] + 1,
			      entry->field[USER]);
		return REFUSE;
	}
	size_t len = (size_t)(match[1].rm_eo - match[1].rm_so);
	return substituted(entry, mark, identity + match[1].rm_so, len, user) ? ALLOW : PASS;
}

bool identmap_allows(const struct identmap *map, const char *identity, const char *user)
{
	enum verdict verdict = PASS;
	struct error e;

	if (identity[0] == '\0' || user[0] == '\0' || strlen(identity) > IDENTITY_LIMIT)
		return false;
	for (struct entry *l = map->first; l != NULL && verdict == PASS; l = l->next) {
		const struct source s = {.file = map->file, .number = l->line, .compile = true};
		if (compile_field(&s, l, IDENTITY, &e) && compile_field(&s, l, USER, &e))
			verdict = ask_entry(map, l, identity, user);
		else {
			log_peer_line(LOG_ERR, "%s", e.text);
			verdict = REFUSE;
		}
	}
	return verdict == ALLOW;
}
