/* SPDX-License-Identifier: ISC
 *
 * log.h - the log.
 *
 * Owns syslog, the log file and the copy of standard error. Never writes to a descriptor that is the client's: step 0 sees to
 * it that descriptor 2 is not. No secret and no payload is ever given to these functions.
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
 * Open the log: `file` if not NULL (appended to; created 0640), else standard error if `use_stderr`, else syslog, facility daemon, under the
 * name `service` (not copied: must outlive the log). Lines above `level` (LOG_EMERG..LOG_DEBUG) are dropped. Everything that a
 * later line needs (the syslog socket, the time zone) is opened here, since step 5 shuts the file system.
 * Fails, with `e` filled in, only when `file` cannot be opened.
 */
bool log_open(const char *file, bool use_stderr, const char *service, int level,
	      struct error *e) MUST_USE;

/* If the log goes to standard error, let it go to syslog from now on: the daemon of -d is leaving that. Reads no file. */
void log_leave_stderr(void);

/* True if the log is a file, so that step 5 must not limit file sizes to 0. */
bool log_is_file(void);

/* True if lines of this level are written: for callers whose line is dear to build. */
bool log_wants(int level);

/* The client, as it stands at the end of log_peer_line's lines. Copied. "[local]" and "" when standard input is no socket. */
void log_set_peer(const char *host, const char *port);

/* One line. Blocks at most as long as a write to the log does. errno is kept. */
void log_line(int level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* The same with " host=... port=..." of the client at its end. */
void log_peer_line(int level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * Copy `len` bytes of `name` into `buf`, every byte but printable ASCII, and blanks and backslashes, as \xHH: a name that a user or a
 * certificate gives can then neither forge a field of a line nor drive a terminal. Cut at `size`, always NUL-terminated; returns `buf`.
 */
const char *log_escape(char *buf, size_t size, const char *name, size_t len);

/* The size that log_escape needs for a name of `len` bytes. */
#define LOG_ESCAPED_SIZE(len) (4 * (len) + 1)

/* What the two lines of a session say. Names are given as the client or the certificate gave them: they are escaped here. */
struct log_session {
	const char *user, *database, *application_name; /* NULL for what there is not */
	const char *backend_port;                       /* "" for a Unix socket */
	const char *tls, *cipher, *group;
	const char *subject, *issuer, *serial; /* of the client's certificate, or NULL */
	int64_t started_ms;                    /* CLOCK_MONOTONIC */
	uint64_t received, sent;
	const char *reason;
};

/*
 * "connection authorized: ...", when the startup packet is forwarded ("connection received: ..." for a session without a user, whose startup packet is under
 * GSSAPI encryption), and "disconnection: ...", at the end. PostgreSQL's words, for log analysers.
 */
void log_authorized(const struct log_session *s);
void log_disconnection(const struct log_session *s, int64_t now_ms);

#endif
