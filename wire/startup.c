/* SPDX-License-Identifier: ISC
 *
 * wire/startup.c - PostgreSQL's packets before a session (steps 2, 6 and 8).
 *
 * What is allowed where stands in `requests`, what a client can be told in `refusals`. A StartupMessage is read as PostgreSQL reads it
 * (ProcessStartupPacket in its backend_startup.c), or a check of the user could be walked around.
 */
#include "wire/startup.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define CODE(major, minor) ((uint32_t)(major) << 16 | (minor))

static const struct request {
	uint32_t code;
	uint32_t min, max; /* length of the packet, the length word included */
	unsigned places;
	bool once;
	enum startup_kind kind;
} requests[] = {
    {CODE(1234, 5678), 16, 268, STARTUP_CLEAR | STARTUP_NEGOTIATED | STARTUP_DIRECT | STARTUP_LOCAL,
     false, STARTUP_CANCEL},
    {CODE(1234, 5679), 8, 8, STARTUP_CLEAR | STARTUP_DIRECT | STARTUP_LOCAL, true,
     STARTUP_SSL_REQUEST},
    {CODE(1234, 5680), 8, 8, STARTUP_CLEAR | STARTUP_DIRECT | STARTUP_LOCAL, true,
     STARTUP_GSS_REQUEST},
    {CODE(3, 0), 8, STARTUP_MAX, STARTUP_NEGOTIATED | STARTUP_DIRECT | STARTUP_LOCAL, false,
     STARTUP_SESSION}, /* of any minor version */
};

#define REQUESTS (sizeof requests / sizeof requests[0])

static const struct {
	const char *sqlstate, *message, *hint; /* %s in the message is the detail */
} refusals[] = {
    [REFUSE_NO_TLS] = {"28000", "this port accepts only TLS connections",
		       "Use sslmode=require or stronger. If another error stands above this one, "
		       "that is the cause: "
		       "libpq's default, sslmode=prefer, tries again in clear after one."},
    [REFUSE_REPEATED] = {"0A000", "encryption has already been negotiated on this connection",
			 NULL},
    [REFUSE_VERSION] = {"0A000", "unsupported frontend protocol %s: server supports 3.0 and later",
			NULL},
    [REFUSE_VERSION_2] = {"0A000",
			  "unsupported frontend protocol 2.0: server supports 3.0 and later", NULL},
    [REFUSE_LENGTH] = {"08P01", "invalid length of startup packet",
		       "This port speaks the PostgreSQL protocol."},
    [REFUSE_LAYOUT] = {"08P01", "invalid startup packet layout: expected terminator as last byte",
		       NULL},
    [REFUSE_NO_USER] = {"28000", "no PostgreSQL user name specified in startup packet", NULL},
    [REFUSE_NO_CERTIFICATE] = {"28000", "connection requires a valid client certificate", NULL},
    [REFUSE_CERTIFICATE] = {"28000", "certificate authentication failed for user \"%s\"", NULL},
    [REFUSE_BACKEND] = {"57P03", "could not connect to PostgreSQL at %s", NULL},
    [REFUSE_BACKEND_TLS] = {"08006", "could not establish a TLS connection to PostgreSQL at %s",
			    NULL},
    [REFUSE_TOO_MANY] = {"53300", "sorry, too many clients already", NULL},
};

const unsigned char startup_ssl_request[STARTUP_REQUEST_SIZE] = {0,    0,    0,    8,
								 0x04, 0xd2, 0x16, 0x2f};
const unsigned char startup_gss_request[STARTUP_REQUEST_SIZE] = {0,    0,    0,    8,
								 0x04, 0xd2, 0x16, 0x30};

static uint32_t get_be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void refuse(struct startup *st, enum refusal why)
{
	st->kind = STARTUP_REFUSED;
	st->why = why;
}

/* Read up to `size` bytes of the packet in all. */
static bool more(struct startup *st, struct stream *s, size_t size, deadline when)
{
	size_t got;

	st->io = stream_read_exactly(s, st->packet + st->len, size - st->len, &got, when);
	st->len += got;
	if (st->io == IO_DONE)
		return true;
	st->kind = st->len == 0 && st->io == IO_END ? STARTUP_NOTHING : STARTUP_BROKEN;
	return false;
}

static const struct request *find_request(uint32_t code)
{
	if (code >> 16 == 3)
		code = CODE(3, 0);
	for (size_t i = 0; i < REQUESTS; i++)
		if (requests[i].code == code)
			return &requests[i];
	return NULL;
}

static void refuse_version(struct startup *st, uint32_t code)
{
	snprintf(st->detail, sizeof st->detail, "%u.%u", code >> 16, code & 0xffff);
	refuse(st, code == CODE(2, 0) ? REFUSE_VERSION_2 : REFUSE_VERSION);
}

/* May this request come here and now? */
static bool allowed(struct startup *st, const struct request *r, uint32_t len,
		    enum startup_place place)
{
	unsigned bit = 1u << r->kind;

	if (len < r->min || len > r->max)
		refuse(st, REFUSE_LENGTH);
	else if (r->kind == STARTUP_SESSION && place == STARTUP_CLEAR)
		refuse(st, REFUSE_NO_TLS);
	else if ((r->places & place) == 0 || (r->once && (st->seen & bit) != 0))
		refuse(st, REFUSE_REPEATED);
	else {
		st->seen |= bit;
		st->kind = r->kind;
		return true;
	}
	return false;
}

static void take_parameter(struct startup *st, const char *name, const char *value)
{
	const char **where = NULL;

	if (strcmp(name, "user") == 0)
		where = &st->user;
	else if (strcmp(name, "database") == 0)
		where = &st->database;
	else if (strcmp(name, "application_name") == 0)
		where = &st->application_name;
	if (where == NULL)
		return;
	if (where != &st->application_name) {
		st->user_twice |= *where != NULL;
		st->name_too_long |= strlen(value) > STARTUP_NAME_MAX;
	}
	*where = value;
}

/* Names and values, each ended by a NUL, then one more NUL, which must be the last byte. */
static void parse_parameters(struct startup *st)
{
	const char *at = (const char *)st->packet + 8,
		   *last = (const char *)st->packet + st->len - 1;

	st->packet[st->len] = '\0'; /* so that no string can run out of the packet */
	while (at <= last && *at != '\0') {
		const char *value = at + strlen(at) + 1;

		if (value > last)
			break;
		take_parameter(st, at, value);
		at = value + strlen(value) + 1;
	}
	if (at != last)
		refuse(st, REFUSE_LAYOUT);
	else if (st->user == NULL || st->user[0] == '\0')
		refuse(st, REFUSE_NO_USER);
	else if (st->database == NULL || st->database[0] == '\0')
		st->database = st->user;
}

/*
 * The length of the prefix of `name` that fits into `room` bytes when PostgreSQL shows it. From version 16 on
 * it shows \\xC3 for every byte that is not printable ASCII (pg_clean_ascii in its common/string.c).
 * Never ends inside a character of UTF-8 (RFC 3629: all bytes but the first are 10xxxxxx).
 */
static size_t cut(const char *name, size_t room)
{
	size_t len = 0;

	for (size_t shown = 0; name[len] != '\0'; len++) {
		shown += name[len] < ' ' || name[len] > '~' ? 4 : 1;
		if (shown > room)
			break;
	}
	while (len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80)
		len--;
	return len;
}

/* Put `size` bytes in the place of the `old` bytes at `at`. */
static bool replace(struct startup *st, size_t at, size_t old, const char *bytes, size_t size)
{
	if (st->len - old + size > STARTUP_MAX)
		return false;
	memmove(st->packet + at + size, st->packet + at + old, st->len - at - old);
	memcpy(st->packet + at, bytes, size);
	st->len += size - old;
	uint32_t len = htonl((uint32_t)st->len);
	memcpy(st->packet, &len, sizeof len);
	st->user = st->database = st->application_name =
	    NULL; /* they point to where the bytes were */
	parse_parameters(st);
	return true;
}

bool startup_append_host(struct startup *st, const char *host, const char *port)
{
	static const char key[] = "application_name"; /* goes with its NUL */
	char suffix[STARTUP_NAME_MAX + 1], text[sizeof key + STARTUP_NAME_MAX + 1];
	const char *name = st->application_name != NULL ? st->application_name : "app";
	const char *form = port[0] == '\0'             ? " - %s"
			   : strchr(host, ':') != NULL ? " - [%s]:%s"
						       : " - %s:%s";

	snprintf(suffix, sizeof suffix, form, host, port);
	int n = snprintf(text, sizeof text, "%s%c%.*s%s", key, '\0',
			 (int)cut(name, STARTUP_NAME_MAX - strlen(suffix)), name, suffix);
	size_t size = (size_t)n + 1;
	if (st->application_name == NULL)
		return replace(st, st->len - 1, 0, text, size);
	size_t at = (size_t)((const unsigned char *)name - st->packet);
	return replace(st, at, strlen(name) + 1, text + sizeof key, size - sizeof key);
}

void startup_read(struct startup *st, struct stream *s, enum startup_place place, bool first,
		  deadline when)
{
	st->len = 0;
	st->user = st->database = st->application_name = NULL;
	st->user_twice = st->name_too_long = false;
	if (!more(st, s, 1, when))
		return;
	if (first && st->packet[0] == 0x16) { /* RFC 8446, 5.1: ContentType handshake */
		st->kind = STARTUP_DIRECT_TLS;
		return;
	}
	if (!more(st, s, 4, when))
		return;

	uint32_t len = get_be32(st->packet);
	if (len < 8 || len > STARTUP_MAX) {
		refuse(st, REFUSE_LENGTH);
		return;
	}
	if (!more(st, s, 8, when))
		return;

	uint32_t code = get_be32(st->packet + 4);
	const struct request *r = find_request(code);
	if (r == NULL)
		refuse_version(st, code);
	else if (allowed(st, r, len, place) && more(st, s, len, when) &&
		 st->kind == STARTUP_SESSION)
		parse_parameters(st);
}

enum io_status startup_answer(struct stream *s, char answer, deadline when)
{
	return stream_write_all(s, &answer, 1, when);
}

const char *startup_refusal_text(enum refusal why, const char *detail, char *buf, size_t size)
{
	const char *message = refusals[why].message, *gap = strstr(message, "%s");

	if (gap == NULL)
		snprintf(buf, size, "%s", message);
	else
		snprintf(buf, size, "%.*s%s%s", (int)(gap - message), message, detail, gap + 2);
	return buf;
}

/* An ErrorResponse under construction: it is cut, never overrun. */
struct message {
	unsigned char bytes[2048];
	size_t len;
};

static void put_field(struct message *m, char type, const char *text)
{
	size_t n = strlen(text) + 1;

	if (m->len + 1 + n + 1 > sizeof m->bytes)
		return;
	m->bytes[m->len++] = (unsigned char)type;
	memcpy(m->bytes + m->len, text, n);
	m->len += n;
}

/* ErrorResponse, "Message Formats" and "Error and Notice Message Fields" of PostgreSQL's protocol. */
static void build_error(struct message *m, enum refusal why, const char *text)
{
	m->len = 5; /* 'E' and the length, known at the end */
	put_field(m, 'S', "FATAL");
	put_field(m, 'V', "FATAL");
	put_field(m, 'C', refusals[why].sqlstate);
	put_field(m, 'M', text);
	if (refusals[why].hint != NULL)
		put_field(m, 'H', refusals[why].hint);
	m->bytes[m->len++] = '\0';
	m->bytes[0] = 'E';
	uint32_t len = htonl((uint32_t)(m->len - 1));
	memcpy(m->bytes + 1, &len, sizeof len);
}

enum io_status startup_refuse(struct stream *s, enum refusal why, const char *detail, deadline when)
{
	struct message m = {.len = 0};
	char text[1024];

	startup_refusal_text(why, detail, text, sizeof text);
	if (why == REFUSE_VERSION_2)
		put_field(&m, 'E', text); /* protocol 2: 'E', the text, a NUL */
	else
		build_error(&m, why, text);
	return stream_write_all(s, m.bytes, m.len, when);
}

#define AUTHENTICATION_SASL 10
#define MESSAGE_HEAD        5 /* type and length */
#define RELAY_MAX                                                                                  \
	8192 /* the longest message looked into; errors before authentication are far shorter */

/* Take SCRAM-SHA-256-PLUS out of the list of names in an AuthenticationSASL, message `m` of `len` bytes. Returns its new length. */
static size_t take_plus(unsigned char *m, size_t len)
{
	static const char plus[] = "SCRAM-SHA-256-PLUS";
	size_t at = MESSAGE_HEAD + 4;

	while (at < len && m[at] != '\0') { /* an empty name ends the list */
		size_t n = strnlen((char *)m + at, len - at) + 1;

		if (at + n > len) /* no NUL: not ours to repair */
			break;
		if (n == sizeof plus && memcmp(m + at, plus, n) == 0) {
			memmove(m + at, m + at + n, len - at - n);
			len -= n;
		} else {
			at += n;
		}
	}
	uint32_t length = htonl((uint32_t)(len - 1));
	memcpy(m + 1, &length, sizeof length);
	return len;
}

static bool is_sasl_request(const unsigned char *m, size_t len)
{
	return m[0] == 'R' && len >= MESSAGE_HEAD + 4 &&
	       get_be32(m + MESSAGE_HEAD) == AUTHENTICATION_SASL;
}

/* Read one message of the server's; of one that is too long, or is none, only the head: then `whole` is false. */
static enum io_status read_message(struct stream *server, unsigned char *m, size_t *len,
				   bool *whole, deadline when)
{
	size_t body;
	enum io_status io = stream_read_exactly(server, m, MESSAGE_HEAD, len, when);

	*whole = false;
	if (io != IO_DONE)
		return io;
	size_t size = (size_t)get_be32(m + 1) + 1;
	if (size < MESSAGE_HEAD || size > RELAY_MAX)
		return IO_DONE;
	io = stream_read_exactly(server, m + MESSAGE_HEAD, size - MESSAGE_HEAD, &body, when);
	*len += body;
	*whole = io == IO_DONE;
	return io;
}

enum io_status startup_relay_authentication(struct stream *server, struct stream *client,
					    deadline when)
{
	unsigned char m[RELAY_MAX];
	size_t len;
	bool whole;

	do {
		enum io_status io = read_message(server, m, &len, &whole, when);
		if (io != IO_DONE)
			return io;
		if (whole && is_sasl_request(m, len))
			len = take_plus(m, len);
		io = stream_write_all(client, m, len, when);
		if (io != IO_DONE)
			return io == IO_FAILED ? IO_DONE : io;
	} while (whole &&
		 (m[0] == 'N' || m[0] == 'v')); /* NoticeResponse, NegotiateProtocolVersion */
	return IO_DONE;
}

const char *startup_broken_text(const struct startup *st)
{
	switch (st->io) {
	case IO_END:
		return "client closed the connection inside a packet";
	case IO_TIMEOUT:
		return "client did not send its startup packet in time";
	case IO_TERMINATED:
		return "terminated by SIGTERM before the session began";
	default:
		return "connection to client lost";
	}
}

/* A StartupMessage of version 3.0; its length, 0 if it does not fit. */
static size_t build_startup(unsigned char *packet, size_t size, const char *const parameters[])
{
	size_t at = 8;

	for (; *parameters != NULL; parameters++) {
		size_t n = strlen(*parameters) + 1;
		if (n >= size - at)
			return 0;
		memcpy(packet + at, *parameters, n);
		at += n;
	}
	packet[at++] = '\0';
	uint32_t words[] = {htonl((uint32_t)at), htonl(CODE(3, 0))};
	memcpy(packet, words, sizeof words);
	return at;
}

/* A field of an ErrorResponse, whose bytes end in a NUL; "" if there is none of that type. */
static const char *error_field(const char *at, char type)
{
	while (*at != '\0' && *at != type)
		at += strlen(at) + 1;
	return *at == '\0' ? "" : at + 1;
}

char startup_ask(struct startup_reply *r, struct stream *backend, const char *const parameters[],
		 deadline when)
{
	unsigned char packet[1024], m[RELAY_MAX + 2] = {0}; /* so that each string has an end */
	size_t len = build_startup(packet, sizeof packet, parameters);
	bool whole;

	if (len == 0 || stream_write_all(backend, packet, len, when) != IO_DONE ||
	    read_message(backend, m, &len, &whole, when) != IO_DONE || !whole ||
	    (m[0] == 'R' && len < MESSAGE_HEAD + 4))
		return 0;
	*r = (struct startup_reply){.method = get_be32(m + MESSAGE_HEAD)};
	if (m[0] == 'E') {
		const char *fields = (const char *)m + MESSAGE_HEAD;
		snprintf(r->sqlstate, sizeof r->sqlstate, "%s", error_field(fields, 'C'));
		snprintf(r->message, sizeof r->message, "%s", error_field(fields, 'M'));
	}
	return (char)m[0];
}
