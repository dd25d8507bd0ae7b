/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/postgres.h - a model of how PostgreSQL reads a startup packet: ProcessStartupPacket() in
 * src/backend/tcop/backend_startup.c, in its order and with its arithmetic. Shares no code with
 * wire/startup.c.
 */
#ifndef PGSSL_FUZZ_POSTGRES_H
#define PGSSL_FUZZ_POSTGRES_H

#include <strings.h>

#include "fuzz.h"

#define PG_PACKET_MAX  10000 /* MAX_STARTUP_PACKET_LENGTH */
#define PG_NAMEDATALEN 64
#define PG_PARAMETERS  (PG_PACKET_MAX / 2)

enum pg_reading {
	PG_GONE,       /* no byte */
	PG_INCOMPLETE, /* "incomplete startup packet" */
	PG_LENGTH,     /* "invalid length of startup packet" */
	PG_CANCEL,
	PG_SSL,
	PG_GSS,
	PG_VERSION, /* "unsupported frontend protocol" */
	PG_LAYOUT,  /* "invalid startup packet layout" */
	PG_NO_USER, /* "no PostgreSQL user name specified" */
	PG_SESSION,
};

/* Some fields of struct Port, and what a test wants to know. Strings point into `buf`. */
struct pg_port {
	size_t len; /* of the packet, its length word included; 0 if that is not valid */
	uint32_t proto;
	const char *user_name, *database_name, *application_name;
	unsigned users, databases; /* how often each was given */
	bool long_name;            /* one of these values is cut to NAMEDATALEN - 1 */
	size_t parameters;
	const char *name[PG_PARAMETERS], *value[PG_PARAMETERS];
	char buf[PG_PACKET_MAX + 1];
};

static inline void pg_parameter(struct pg_port *port, const char *nameptr, const char *valptr)
{
	port->name[port->parameters] = nameptr;
	port->value[port->parameters++] = valptr;
	if (strcmp(nameptr, "database") == 0) {
		port->database_name = valptr;
		port->databases++;
		port->long_name |= strlen(valptr) >= PG_NAMEDATALEN;
	} else if (strcmp(nameptr, "user") == 0) {
		port->user_name = valptr;
		port->users++;
		port->long_name |= strlen(valptr) >= PG_NAMEDATALEN;
	} else if (strcasecmp(nameptr, "application_name") == 0) {
		port->application_name = valptr; /* a setting; see guc_name_compare() in guc.c */
	}
}

static inline enum pg_reading pg_read(struct pg_port *port, const unsigned char *in, size_t left,
				      bool ssl_done, bool gss_done)
{
	memset(port, 0, offsetof(struct pg_port, name));
	if (left < 4)
		return left == 0 ? PG_GONE : PG_INCOMPLETE;
	int32_t len = (int32_t)(be32(in) - 4);
	if (len < 4 || len > PG_PACKET_MAX)
		return PG_LENGTH;
	port->len = (size_t)len + 4;
	if (left < port->len)
		return PG_INCOMPLETE;
	memcpy(port->buf, in + 4, (size_t)len);
	port->buf[len] = '\0';

	port->proto = be32(in + 4);
	if (port->proto == 80877102) /* the key has 1 to 256 bytes since version 18 */
		return len < 9 || len > 8 + 256 ? PG_LENGTH : PG_CANCEL;
	if (port->proto == 80877103 && !ssl_done)
		return PG_SSL;
	if (port->proto == 80877104 && !gss_done)
		return PG_GSS;
	if (port->proto >> 16 != 3)
		return PG_VERSION;

	int32_t offset = 4;
	while (offset < len) {
		const char *nameptr = port->buf + offset;
		if (*nameptr == '\0')
			break;
		int32_t valoffset = offset + (int32_t)strlen(nameptr) + 1;
		if (valoffset >= len)
			break;
		const char *valptr = port->buf + valoffset;
		pg_parameter(port, nameptr, valptr);
		offset = valoffset + (int32_t)strlen(valptr) + 1;
	}
	if (offset != len - 1)
		return PG_LAYOUT;
	if (port->user_name == NULL || port->user_name[0] == '\0')
		return PG_NO_USER;
	if (port->database_name == NULL || port->database_name[0] == '\0')
		port->database_name = port->user_name;
	return PG_SESSION;
}

#endif
