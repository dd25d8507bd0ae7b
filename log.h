/* SPDX-License-Identifier: ISC
 *
 * log.h - the log: syslog, a file, or standard error.
 *
 * Never writes to the client: step 0 made sure that descriptor 2 is not the client. Callers never
 * pass a secret or payload. A line blocks as long as the write does; errno is kept.
 */
#ifndef PGSSL_LOG_H
#define PGSSL_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

#include "error.h"

/*
 * Open the log: the file `fd` (sandbox/path.h; -1: none), else standard error if `use_stderr`, else
 * syslog, facility daemon, under the name `service` (not copied). Drop lines above `level`
 * (LOG_EMERG to LOG_DEBUG). Everything that a later line needs is opened here, since step 5 closes
 * the file system.
 */
void log_open(int fd, bool use_stderr, const char *service, int level);

/* Before step 5, for log_leave_stderr: open what syslog needs, unless the log is a file. */
void log_open_syslog(void);

/* If the log goes to standard error, send it to syslog from now on. Opens nothing. */
void log_leave_stderr(void);

/* The socket that sends to syslog by sendto() with an address, for step 5. 0 if there is none. */
int log_syslog_socket(void);

/* Does a syslog daemon listen on /dev/log? */
bool log_syslogd_listens(void);

/* Is the log a file? Then step 5 must not limit file sizes to 0. */
bool log_is_file(void);

/* Set the client's address for log_peer_line. Copied. "[local]" and "" if there is none. */
void log_set_peer(const char *host, const char *port);

/* Write one line. */
void log_line(int level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The same, followed by the client's address: " host=... port=...". */
void log_peer_line(int level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * Copy `len` bytes of `name` to `buf` with blanks, backslashes, double quotes and everything but
 * printable ASCII as \xHH, so that an untrusted name cannot forge a field or control a terminal.
 * Cut to `size`, always NUL-terminated. Returns `buf`.
 */
const char *log_escape(char *buf, size_t size, const char *name, size_t len);

/* The size that log_escape needs for a name of `len` bytes. */
#define LOG_ESCAPED_SIZE(len) (4 * (len) + 1)

/* The fields of a session's two lines, unescaped. NULL where there is none. */
struct log_session {
	const char *user, *database, *application_name;
	const char *backend_port; /* the one that PostgreSQL sees as the client's */
	const char *tls, *cipher, *group;
	const char *subject, *issuer, *serial; /* of the certificate of the peer */
	bool of_server;                        /* in client mode: it is the server's */
	int64_t started_ms;                    /* CLOCK_MONOTONIC */
	uint64_t received, sent;
	const char *reason;
};

/*
 * "connection authorized: ..." when the startup packet is forwarded, and "disconnection: ..." at
 * the end, in PostgreSQL's words. Without a user (the startup packet is under GSSAPI encryption)
 * the first is "connection received: ...".
 */
void log_authorized(const struct log_session *s);
void log_disconnection(const struct log_session *s, int64_t now_ms);

#endif
