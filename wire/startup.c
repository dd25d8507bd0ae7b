/* SPDX-License-Identifier: ISC
 *
 * wire/startup.c - PostgreSQL's packets before a session (steps 2, 6 and 8).
 *
 * `requests` says what is allowed where, `refusals` has the errors for clients. A StartupMessage
 * must be read as PostgreSQL reads it (ProcessStartupPacket in backend_startup.c), or the check of
 * the user could be bypassed.
 */
#include "wire/startup.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CODE(major, minor)  ((uint32_t)(major) << 16 | (minor))
#define MESSAGE_HEAD        5    /* type and length of a message */
#define RELAY_MAX           8192 /* longer messages are not looked into */
#define AUTHENTICATION_SASL 10
#define SCRAM               "SCRAM-SHA-256"

#define UNENCRYPTED (STARTUP_CLEAR | STARTUP_DIRECT | STARTUP_LOCAL)
#define EVERYWHERE  (UNENCRYPTED | STARTUP_NEGOTIATED)

/* STARTUP_DIRECT counts as unencrypted too: the inner client does not know of the TLS around it. */
/* clang-format off */
static const struct request {
	uint32_t code;
	uint32_t min, max; /* length of the packet, with its length word */
	unsigned places;
	bool once;
	enum startup_kind kind;
} requests[] = {
	{CODE(1234, 5678), 16, 268, EVERYWHERE, false, STARTUP_CANCEL},
	{CODE(1234, 5679), 8, 8, UNENCRYPTED, true, STARTUP_SSL_REQUEST},
	{CODE(1234, 5680), 8, 8, UNENCRYPTED, true, STARTUP_GSS_REQUEST},
	{CODE(3, 0), 8, STARTUP_MAX, EVERYWHERE & ~STARTUP_CLEAR, false, STARTUP_SESSION}, /* 3.x */
};

static const struct {
	const char *sqlstate, *message, *hint; /* %s stands for the detail */
} refusals[] = {
	[REFUSE_NO_TLS] = {"28000", "this port accepts only TLS connections",
		"Use sslmode=require or stronger. If another error is shown above this one, that "
		"is the cause: with sslmode=prefer, the default, libpq then tries without TLS."},
	[REFUSE_REPEATED] = {"0A000",
		"encryption has already been negotiated on this connection", NULL},
	[REFUSE_AGAIN] = {"0A000", "%s encryption has already been refused on this connection",
		NULL},
	[REFUSE_VERSION] = {"0A000",
		"unsupported frontend protocol %s: server supports 3.0 and later", NULL},
	[REFUSE_VERSION_2] = {"0A000",
		"unsupported frontend protocol 2.0: server supports 3.0 and later", NULL},
	[REFUSE_LENGTH] = {"08P01", "invalid length of startup packet",
		"This port is for PostgreSQL clients."},
	[REFUSE_LAYOUT] = {"08P01",
		"invalid startup packet layout: expected terminator as last byte", NULL},
	[REFUSE_NO_USER] = {"28000", "no PostgreSQL user name specified in startup packet", NULL},
	[REFUSE_NO_CERTIFICATE] = {"28000", "connection requires a valid client certificate", NULL},
	[REFUSE_CERTIFICATE] = {"28000", "certificate authentication failed for user \"%s\"", NULL},
	[REFUSE_BACKEND] = {"57P03", "could not connect to PostgreSQL at %s", NULL},
	[REFUSE_BACKEND_TLS] = {"08006",
		"could not establish a TLS connection to PostgreSQL at %s", NULL},
	[REFUSE_CHANNEL_BINDING] = {"28000",
		"SCRAM channel binding cannot work: TLS ends between you and PostgreSQL",
		"Use channel_binding=disable."},
	[REFUSE_TOO_MANY] = {"53300", "sorry, too many clients already", NULL},
	[REFUSE_TOO_MANY_OF_SOURCE] = {"53300", "too many connections from this address",
				       "See --max-per-source in pgssl's manual."},
};
/* clang-format on */

const unsigned char startup_ssl_request[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f};
const unsigned char startup_gss_request[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30};

static uint32_t get_be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_be32(unsigned char *p, size_t value)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(value >> (24 - 8 * i));
}

static void refuse_packet(struct startup *st, enum refusal why)
{
	st->kind = STARTUP_REFUSED;
	st->why = why;
}

/* Read until the packet has `size` bytes. */
static bool read_packet(struct startup *st, struct stream *s, size_t size, deadline when)
{
	size_t got;

	st->io = stream_read_exactly(s, st->packet + st->len, size - st->len, &got, when);
	st->len += got;
	if (st->io == IO_DONE)
		return true;
	bool gone = st->io == IO_END || st->io == IO_FAILED;
	st->kind = st->len == 0 && gone ? STARTUP_NOTHING : STARTUP_BROKEN;
	return false;
}

static const struct request *find_request(uint32_t code)
{
	if (code >> 16 == 3)
		code = CODE(3, 0);
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
		if (requests[i].code == code)
			return &requests[i];
	return NULL;
}

static void refuse_version(struct startup *st, uint32_t code)
{
	snprintf(st->detail, sizeof st->detail, "%u.%u", code >> 16, code & 0xffff);
	refuse_packet(st, code == CODE(2, 0) ? REFUSE_VERSION_2 : REFUSE_VERSION);
}

/* A second request in the same place follows an N: after an S or G the place is another one. */
static void refuse_again(struct startup *st, enum startup_kind kind)
{
	strlcpy(st->detail, kind == STARTUP_GSS_REQUEST ? "GSSAPI" : "TLS", sizeof st->detail);
	refuse_packet(st, REFUSE_AGAIN);
}

/* Is this request allowed here and now? */
static bool accept_request(struct startup *st, const struct request *r, uint32_t len,
			   enum startup_place place)
{
	unsigned bit = 1u << r->kind;

	if (len < r->min || len > r->max)
		refuse_packet(st, REFUSE_LENGTH);
	else if (r->kind == STARTUP_SESSION && place == STARTUP_CLEAR)
		refuse_packet(st, REFUSE_NO_TLS);
	else if ((r->places & place) == 0)
		refuse_packet(st, REFUSE_REPEATED);
	else if (r->once && (st->seen & bit) != 0)
		refuse_again(st, r->kind);
	else {
		st->seen |= bit;
		st->kind = r->kind;
		return true;
	}
	return false;
}

static void take_parameter(struct startup *st, const char *name, const char *value)
{
	if (strcasecmp(name, "application_name") == 0) /* as any setting */
		st->application_name = value;
	const char **where = strcmp(name, "user") == 0       ? &st->user
			     : strcmp(name, "database") == 0 ? &st->database
							     : NULL;
	if (where == NULL)
		return;
	st->user_twice |= *where != NULL;
	st->name_too_long |= strlen(value) > STARTUP_NAME_MAX;
	*where = value;
}

/* Names and values, each ended by a NUL, then one more NUL, which must be the last byte. */
static void parse_parameters(struct startup *st)
{
	const char *packet = (const char *)st->packet;
	size_t at = 8, last = st->len - 1;

	st->packet[st->len] = '\0'; /* no string can run out of the packet */
	while (at <= last && packet[at] != '\0') {
		size_t value = at + strlen(packet + at) + 1;

		if (value > last)
			break;
		take_parameter(st, packet + at, packet + value);
		at = value + strlen(packet + value) + 1;
	}
	if (at != last)
		refuse_packet(st, REFUSE_LAYOUT);
	else if (st->user == NULL || st->user[0] == '\0')
		refuse_packet(st, REFUSE_NO_USER);
	else if (st->database == NULL || st->database[0] == '\0')
		st->database = st->user;
}

/*
 * The length of the longest prefix of `name` that PostgreSQL shows in `room` bytes. From version 16
 * on it shows a byte that is not printable ASCII as \\xC3 (pg_clean_ascii). Never ends inside a
 * UTF-8 character (RFC 3629: all bytes but the first are 10xxxxxx).
 */
static size_t fitting_prefix(const char *name, size_t room)
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

/* Replace `old` bytes at `at`. */
static bool replace_bytes(struct startup *st, size_t at, size_t old, const char *bytes, size_t size)
{
	if (st->len - old + size > STARTUP_MAX)
		return false;
	memmove(st->packet + at + size, st->packet + at + old, st->len - at - old);
	memcpy(st->packet + at, bytes, size);
	st->len = st->len - old + size;
	put_be32(st->packet, st->len);
	st->user = st->database = st->application_name = NULL;
	parse_parameters(st);
	return true;
}

bool startup_append_host(struct startup *st, const char *host, const char *port)
{
	static const char key[] = "application_name"; /* sent with its NUL */
	char suffix[STARTUP_NAME_MAX + 1], text[sizeof key + STARTUP_NAME_MAX + 1];
	const char *name = st->application_name != NULL ? st->application_name : "app";
	const char *form = port[0] == '\0'             ? " - %s"
			   : strchr(host, ':') != NULL ? " - [%s]:%s"
						       : " - %s:%s";

	snprintf(suffix, sizeof suffix, form, host, port);
	int n =
	    snprintf(text, sizeof text, "%s%c%.*s%s", key, '\0',
		     (int)fitting_prefix(name, STARTUP_NAME_MAX - strlen(suffix)), name, suffix);
	size_t size = (size_t)n + 1;
	if (st->application_name == NULL)
		return replace_bytes(st, st->len - 1, 0, text, size);
	size_t at = (size_t)((const unsigned char *)name - st->packet);
	return replace_bytes(st, at, strlen(name) + 1, text + sizeof key, size - sizeof key);
}

void startup_read(struct startup *st, struct stream *s, enum startup_place place, bool first,
		  deadline when)
{
	st->len = 0;
	st->user = st->database = st->application_name = NULL;
	st->user_twice = st->name_too_long = false;
	if (!read_packet(st, s, 1, when))
		return;
	if (first && st->packet[0] == 0x16) { /* RFC 8446, 5.1: ContentType handshake */
		st->kind = STARTUP_DIRECT_TLS;
		return;
	}
	if (!read_packet(st, s, 4, when))
		return;

	uint32_t len = get_be32(st->packet);
	if (len < 8 || len > STARTUP_MAX) {
		refuse_packet(st, REFUSE_LENGTH);
		return;
	}
	if (!read_packet(st, s, 8, when))
		return;

	uint32_t code = get_be32(st->packet + 4);
	const struct request *r = find_request(code);
	if (r == NULL)
		refuse_version(st, code);
	else if (accept_request(st, r, len, place) && read_packet(st, s, len, when) &&
		 st->kind == STARTUP_SESSION)
		parse_parameters(st);
}

enum io_status startup_answer(struct stream *s, char answer, deadline when)
{
	return stream_write_all(s, &answer, 1, when);
}

const char *startup_refusal_text(enum refusal why, const char *detail, char *buf, size_t size)
{
	snprintf(buf, size, refusals[why].message, detail);
	return buf;
}

/* See "Message Formats" and "Error and Notice Message Fields" in PostgreSQL's manual. */
enum io_status startup_refuse(struct stream *s, enum refusal why, const char *detail, deadline when)
{
	const char *state = refusals[why].sqlstate, *hint = refusals[why].hint;
	char text[1024], message[2048] = "E";
	size_t len = why == REFUSE_VERSION_2 ? 1 : MESSAGE_HEAD, room = sizeof message - len;

	startup_refusal_text(why, detail, text, sizeof text);
	if (why == REFUSE_VERSION_2) { /* protocol 2 has no length and no fields */
		len += (size_t)snprintf(message + len, room, "%s", text);
	} else {
		len += (size_t)snprintf(message + len, room, "SFATAL%cVFATAL%cC%s%cM%s%c", 0, 0,
					state, 0, text, 0);
		if (hint != NULL)
			len +=
			    (size_t)snprintf(message + len, sizeof message - len, "H%s%c", hint, 0);
		put_be32((unsigned char *)message + 1, len);
	}
	return stream_write_all(s, message, len + 1, when);
}

/* Remove SCRAM-SHA-256-PLUS from the names in an AuthenticationSASL. Returns the new length. */
static size_t remove_scram_plus(unsigned char *m, size_t len)
{
	static const char plus[] = SCRAM "-PLUS";
	size_t at = MESSAGE_HEAD + 4;

	while (at < len && m[at] != '\0') { /* an empty name ends the list */
		size_t n = strnlen((char *)m + at, len - at) + 1;

		if (at + n > len) /* malformed: leave it to the client */
			break;
		if (n == sizeof plus && memcmp(m + at, plus, n) == 0) {
			memmove(m + at, m + at + n, len - at - n);
			len -= n;
		} else {
			at += n;
		}
	}
	put_be32(m + 1, len - 1);
	return len;
}

static bool is_sasl_request(const unsigned char *m, size_t len)
{
	return m[0] == 'R' && len >= MESSAGE_HEAD + 4 &&
	       get_be32(m + MESSAGE_HEAD) == AUTHENTICATION_SASL;
}

/* Read one message. If it is too long or malformed, read only the head; `whole` is then false. */
static enum io_status read_message(struct stream *from, unsigned char *m, size_t *len, bool *whole,
				   deadline when)
{
	size_t body;
	enum io_status io = stream_read_exactly(from, m, MESSAGE_HEAD, len, when);

	*whole = false;
	if (io != IO_DONE)
		return io;
	size_t size = (size_t)get_be32(m + 1) + 1;
	if (size < MESSAGE_HEAD || size > RELAY_MAX)
		return IO_DONE;
	io = stream_read_exactly(from, m + MESSAGE_HEAD, size - MESSAGE_HEAD, &body, when);
	*len += body;
	*whole = io == IO_DONE;
	return io;
}

enum io_status startup_relay_authentication(struct stream *backend, struct stream *client,
					    bool *plus_removed, deadline when)
{
	unsigned char m[RELAY_MAX];
	size_t len, all;
	bool whole;

	*plus_removed = false;
	do {
		enum io_status io = read_message(backend, m, &len, &whole, when);
		if (io != IO_DONE)
			return io;
		all = len;
		if (whole && is_sasl_request(m, len))
			len = remove_scram_plus(m, len);
		*plus_removed = len < all;
		io = stream_write_all(client, m, len, when);
		if (io != IO_DONE)
			return io == IO_FAILED ? IO_DONE : io;
		/* Go on after NoticeResponse and NegotiateProtocolVersion. */
	} while (whole && (m[0] == 'N' || m[0] == 'v'));
	return IO_DONE;
}

/* RFC 5802, 7: "y" means that the client could bind, and thinks that the server cannot. */
static bool misses_channel_binding(const unsigned char *m, size_t len)
{
	size_t flag = MESSAGE_HEAD + sizeof SCRAM + 4; /* after name and length of the response */

	return m[0] == 'p' && len > flag && m[flag] == 'y' &&
	       memcmp(m + MESSAGE_HEAD, SCRAM, sizeof SCRAM) == 0;
}

bool startup_relay_scram(struct stream *client, struct stream *backend, enum io_status *result,
			 deadline when)
{
	unsigned char m[RELAY_MAX];
	size_t len;
	bool whole;

	/* The relay handles a client that is gone, slow or unusual. */
	if (read_message(client, m, &len, &whole, when) == IO_DONE && whole &&
	    misses_channel_binding(m, len))
		return false;
	*result = stream_write_all(backend, m, len, when);
	if (*result == IO_FAILED) /* its last words are to be read */
		*result = IO_DONE;
	return true;
}

const char *startup_broken_text(const struct startup *st)
{
	return st->io == IO_END          ? "client closed the connection inside a packet"
	       : st->io == IO_TIMEOUT    ? "client did not send its startup packet in time"
	       : st->io == IO_NO_MEMORY  ? "out of memory"
	       : st->io == IO_TERMINATED ? "terminated by SIGTERM before the session began"
					 : "connection to client lost";
}

/* A field of an ErrorResponse, whose bytes end in a NUL; "" if there is none of that type. */
static const char *error_field(const char *at, char type)
{
	while (*at != '\0' && *at != type)
		at += strlen(at) + 1;
	return *at == '\0' ? "" : at + 1;
}

char startup_ask(struct startup_reply *r, struct stream *backend, const char *user,
		 const char *database, deadline when)
{
	unsigned char packet[1024], m[RELAY_MAX + 2] = {0}; /* so that each string has an end */
	size_t size = sizeof packet - 8, len;
	bool whole, replication = database == NULL;

	len = (size_t)snprintf((char *)packet + 8, size,
			       "user%c%s%cdatabase%c%s%capplication_name%cpgssl --check%c%s%c%s%c",
			       0, user, 0, 0, replication ? "replication" : database, 0, 0, 0,
			       replication ? "replication" : "client_encoding", 0,
			       replication ? "true" : "UTF8", 0);
	put_be32(packet, 8 + len + 1); /* snprintf's NUL ends the packet */
	put_be32(packet + 4, CODE(3, 0));
	if (len >= size || stream_write_all(backend, packet, 8 + len + 1, when) != IO_DONE ||
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

const char *startup_method_text(uint32_t method)
{
	static const char *const texts[] = {
	    [3] = "a password in clear text (password, ldap, pam or radius)",
	    [5] = "a password (md5: scram-sha-256 is stronger)",
	    [7] = "a Kerberos ticket (gss)",
	    [9] = "SSPI",
	    [AUTHENTICATION_SASL] = "a password (scram-sha-256)"};

	return method < sizeof texts / sizeof texts[0] ? texts[method] : NULL;
}
