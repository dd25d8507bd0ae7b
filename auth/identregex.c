/* SPDX-License-Identifier: ISC
 *
 * auth/identregex.c - does a POSIX extended expression mean the same to PostgreSQL? For identmap.c, in step 3.
 *
 * Found by trying both on 150,000 random expressions. Compiles nothing: what is malformed for both is regcomp's to say.
 */
#include "auth/identregex.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

/* The end of a bracket expression that begins at `p`: its ']', or NULL. Sets *odd if a byte in it means another thing to PostgreSQL. */
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

/* What may stand before a character of a regular expression. */
enum before { BEGIN, ATOM, GROUP, FIRST_GROUP, OTHER };

/* A character that is several bytes cannot be repeated: only its last byte would be. */
static enum before atom(char c)
{
	return (unsigned char)c < 0x80 ? ATOM : OTHER;
}

/* Anchors in the middle: glibc lets them match at a line break. Then nothing may stand before *, +, ? and {. */
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
		return "{ without a number behind it; write \\{ for the character";
	if (before == BEGIN || before == OTHER)
		return "*, +, ? or { without a single character or a group before it";
	if (before == FIRST_GROUP && captures)
		return "the group of \\1 repeated; put the repetition within its parentheses";
	/* glibc (2.36) never comes back when it looks for the groups of expressions like ((a|)*b)*; so only plain sequences are repeated then. */
	if (before == GROUP && captures && *p != '?')
		return "a repeated group with a group, |, * or ? in it, while \\1 is used";
	return NULL;
}

const char *identregex_ambiguous(const char *regex, bool captures)
{
	enum before before = BEGIN;
	int depth = 0, groups = 0; /* groups: closed ones that stand in no other */
	bool odd = false,
	     plain = false; /* since the last parenthesis only characters, + and counts */
	const char *doubt = NULL;

	for (const char *p = regex; *p != '\0' && doubt == NULL; p++) {
		switch (*p) {
		case '\\':
			if (isalnum((unsigned char)p[1]) ||
			    (p[1] != '\0' && strchr("<>`'", p[1]) != NULL))
				return "backslash before a letter, digit, <, >, ` or '; write "
				       "[0-9] for \\d, "
				       "[[:alnum:]_] for \\w";
			p += p[1] != '\0';
			before = atom(*p);
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
			before = atom(*p);
		}
	}
	return doubt;
}
