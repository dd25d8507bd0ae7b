/* SPDX-License-Identifier: ISC
 *
 * t/proofs/appname.c - startup_append_host replaces the value of application_name, nothing else,
 * or adds the parameter where the packet ends. The new value is the beginning of the old one that
 * t/proofs/prefix.c chooses, and the suffix, and has at most 63 bytes. t/proofs/replace.c has what
 * becomes of the packet, t/proofs/parameters.c how it is parsed again. For each packet and host.
 *
 * snprintf() is what its manual promises: the text is known at the place `some` and at its end.
 *
 * cbmc: --nondet-static --unwind 66
 * edit: /#define STARTUP_MAX/s/10004/112/ wire/startup.h
 * edit: s/return replace_bytes(/return replaced(/ wire/startup.c
 * edit: s/(int)fitting_prefix(/(int)any_prefix(/ wire/startup.c
 * sabotage: s/st->len - 1, 0, text, size/st->len - 1, 0, text, size - 1/ wire/startup.c
 * sabotage: s/strlen(name) + 1, text + sizeof key/strlen(name), text + sizeof key/ wire/startup.c
 * sabotage: s/STARTUP_NAME_MAX - strlen(suffix)/STARTUP_NAME_MAX + 1 - strlen(suffix)/ wire/startup.c
 * sabotage: s/text + sizeof key, size - sizeof key/text + sizeof key - 1, size - sizeof key/ wire/startup.c
 * sabotage: s/" - %s:%s"/" - %s.%s"/ wire/startup.c
 */
#include "proof.h"

#include <stdarg.h>
#include <stdio.h>

#define strlen   length_of
#define snprintf print
struct startup;
static size_t length_of(const char *s);
static int print(char *to, size_t size, const char *format, ...);
static size_t any_prefix(const char *name, size_t room);
static bool replaced(struct startup *st, size_t at, size_t old, const char *bytes, size_t size);

#include "wire/startup.c"

static struct startup st;
static size_t name_at, name_len; /* the old value in the packet; 0: none */
static size_t prefix;            /* how much of it stays */
static size_t suffix_len, some;
static char *suffix, host[64], port[6]; /* the suffix is the program's */

static size_t length_of(const char *s)
{
	if (s == suffix)
		return suffix_len;
	prove(s == (const char *)st.packet + name_at && name_at != 0, "the old value");
	return name_len;
}

/* The byte at `i` of the new value, with its NUL. */
static char value_byte(size_t i)
{
	if (i >= prefix)
		return i - prefix < suffix_len ? suffix[i - prefix] : '\0';
	return name_at != 0 ? (char)st.packet[name_at + i] : "app"[i];
}

static char text_byte(size_t i)
{
	return i < 17 ? "application_name"[i] : value_byte(i - 17);
}

static bool is_colon_in_host(void)
{
	for (size_t i = 0; i < sizeof host && host[i] != '\0'; i++)
		if (host[i] == ':')
			return true;
	return false;
}

/* The first text is the suffix, cut to its array; the second one the parameter. */
static int print(char *to, size_t size, const char *format, ...)
{
	const char *form = port[0] == '\0'      ? " - %s"
			   : is_colon_in_host() ? " - [%s]:%s"
						: " - %s:%s";
	va_list args;
	size_t len;

	va_start(args, format);
	if (suffix == NULL) {
		suffix = to;
		prove(strcmp(format, form) == 0, "the form that the address needs");
		prove(va_arg(args, const char *) == host && va_arg(args, const char *) == port,
		      "it");
		len = suffix_len = any_size(3, size - 1);
	} else {
		prove(strcmp(format, "%s%c%.*s%s") == 0, "key, NUL, value");
		prove(memcmp(va_arg(args, const char *), "application_name", 17) == 0, "the key");
		prove(va_arg(args, int) == 0, "its NUL");
		prove(va_arg(args, int) == (int)prefix, "the prefix");
		prove(va_arg(args, const char *) == st.application_name || name_at == 0,
		      "of the name");
		prove(va_arg(args, const char *) == suffix, "the suffix");
		len = 17 + prefix + suffix_len;
		prove(len < size, "the text fits");
		given(some >= size || to[some] == text_byte(some));
	}
	to[len] = '\0';
	va_end(args);
	return (int)len;
}

/* t/proofs/prefix.c */
static size_t any_prefix(const char *name, size_t room)
{
	prove(room <= 63 && room + suffix_len <= 63, "as much as there is room for");
	prove(name == st.application_name || (name_at == 0 && strcmp(name, "app") == 0),
	      "the name");
	prefix = any_size(0, room);
	given(prefix <= (name_at != 0 ? name_len : 3));
	return prefix;
}

static bool replaced(struct startup *unused, size_t at, size_t old, const char *bytes, size_t size)
{
	size_t value = prefix + suffix_len;

	(void)unused;
	prove(value <= 63, "PostgreSQL does not cut the value");
	prove(__CPROVER_r_ok(bytes, size), "the new bytes are in the text");
	if (name_at != 0) {
		prove(at == name_at && old == name_len + 1 && size == value + 1, "the old value");
		given(some >= 17);
		prove(some - 17 >= size || bytes[some - 17] == value_byte(some - 17),
		      "the new value");
	} else {
		prove(at == st.len - 1 && old == 0 && size == 17 + value + 1,
		      "before the last NUL");
		prove(some >= size || bytes[some] == text_byte(some), "the parameter");
	}
	possible(name_at != 0 && prefix == 7);
	possible(name_at == 0 && suffix_len == 63);
	return nondet_bool();
}

int main(void)
{
	host[63] = port[5] = '\0';
	suffix = NULL;
	st.len = any_size(16, STARTUP_MAX);
	name_at = any_size(0, STARTUP_MAX);
	name_len = any_size(0, STARTUP_MAX);
	some = any_size(0, 127);
	given(name_at == 0 || (name_at >= 25 && name_at < st.len - 1));
	given(name_at == 0 || name_len < st.len - 1 - name_at);
	st.application_name = name_at == 0 ? NULL : (const char *)st.packet + name_at;
	(void)startup_append_host(&st, host, port);
	return 0;
}
