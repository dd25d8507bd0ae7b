/* SPDX-License-Identifier: ISC
 *
 * log.c - syslog, standard error or a file; errors.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct {
	int fd;     /* -1: syslog */
	int syslog; /* not connected: syslogd may replace its socket. 0: none */
	bool is_file, is_journal;
	int level;
	const char *name;
	char peer[320];
} sink = {.fd = -1, .level = LOG_NOTICE, .name = "pgssl"};

static const struct sockaddr_un syslogd = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};

bool fail(struct error *e, int status, const char *fmt, ...)
{
	va_list args;

	e->status = status;
	va_start(args, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, args);
	va_end(args);
	return false;
}

/* systemd.exec(5), $JOURNAL_STREAM: device and inode of the journal's socket. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_open(int fd, bool use_stderr, const char *service, int level)
{
	sink.level = level;
	sink.name = service;
	tzset(); /* else the first line opens /etc/localtime */
	if (fd >= 0) {
		sink.fd = fd;
		sink.is_file = true;
	} else if (use_stderr) {
		sink.fd = STDERR_FILENO;
		sink.is_journal = stderr_is_journal();
	} else {
		log_open_syslog();
	}
}

void log_open_syslog(void)
{
	if (sink.is_file)
		return;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sink.syslog = fd > STDERR_FILENO ? fd : 0;
	openlog(sink.name, LOG_NDELAY | LOG_PID, LOG_DAEMON);
}

int log_syslog_socket(void)
{
	return sink.syslog;
}

bool log_syslogd_listens(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool yes = connect(fd, (const struct sockaddr *)&syslogd, sizeof syslogd) == 0 ||
		   errno == EPROTOTYPE; /* syslog() also takes a stream socket */

	close(fd);
	return yes;
}

void log_leave_stderr(void)
{
	if (sink.fd == STDERR_FILENO)
		sink.fd = -1;
}

bool log_is_file(void)
{
	return sink.is_file;
}

void log_set_peer(const char *host, const char *port)
{
	const char *key = port[0] != '\0' ? " port=" : "";

	snprintf(sink.peer, sizeof sink.peer, " host=%s%s%s", host, key, port);
}

/*
 * syslog() connects, and cannot connect again after step 5. Naming the address in each message
 * reaches a syslogd that has made a new socket since.
 */
static void write_syslog(int level, const char *text, const char *suffix)
{
	char date[32], line[3328];
	time_t now = time(NULL);
	struct tm tm;

	strftime(date, sizeof date, "%b %e %T", localtime_r(&now, &tm)); /* RFC 3164 */
	snprintf(line, sizeof line, "<%d>%s %.100s[%d]: %s%s", LOG_DAEMON | level, date, sink.name,
		 (int)getpid(), text, suffix);
	if (sink.syslog == 0 || sendto(sink.syslog, line, strlen(line), MSG_NOSIGNAL,
				       (const struct sockaddr *)&syslogd, sizeof syslogd) < 0)
		syslog(level, "%s%s", text, suffix); /* syslogd may have a stream socket */
}

/* "2026-11-22 10:00:00.123 UTC ", as PostgreSQL's log_line_prefix '%m ' has it. */
static void format_time(char *buf, size_t size)
{
	struct timeval now;
	struct tm tm;
	char date[32];

	gettimeofday(&now, NULL);
	localtime_r(&now.tv_sec, &tm);
	strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(buf, size, "%s.%03d %.64s ", date, (int)(now.tv_usec / 1000), tm.tm_zone);
}

/* One write per line: several processes append to the same file. */
static void write_line(int level, const char *text, const char *suffix)
{
	char head[256] = "", line[3328];

	if (sink.is_file)
		format_time(head, sizeof head);
	size_t len = strlen(head);
	if (sink.is_journal) /* sd-daemon(3); it adds time, name and process id itself */
		snprintf(head, sizeof head, "<%d>", level);
	else
		snprintf(head + len, sizeof head - len, "%s[%d]: ", sink.name, (int)getpid());
	int n = snprintf(line, sizeof line, "%s%s%s\n", head, text, suffix);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof line) {
		n = sizeof line - 1;
		line[n - 1] = '\n';
	}
	/* A log that cannot be written must not end a session. */
	if (write(sink.fd, line, (size_t)n) < 0)
		return;
}

static void PRINTF_LIKE(3, 0) log_v(int level, const char *suffix, const char *fmt, va_list args)
{
	int saved = errno;
	char text[2816];

	if (level <= sink.level) {
		vsnprintf(text, sizeof text, fmt, args);
		if (sink.fd < 0)
			write_syslog(level, text, suffix);
		else
			write_line(level, text, suffix);
	}
	errno = saved;
}

void log_line(int level, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_v(level, "", fmt, args);
	va_end(args);
}

void log_peer_line(int level, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_v(level, sink.peer, fmt, args);
	va_end(args);
}

const char *log_escape(char *buf, size_t size, const char *name, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		bool plain = c > ' ' && c < 0x7f && c != '\\' && c != '"';

		if (at + (plain ? 1 : 4) >= size)
			break;
		if (plain)
			buf[at++] = (char)c;
		else
			at += (size_t)snprintf(buf + at, size - at, "\\x%02X", c);
	}
	buf[at] = '\0';
	return buf;
}

/* Append " key=value", escaped and cut to size; nothing for NULL. */
static void append_field(char *line, size_t size, const char *key, const char *value)
{
	char escaped[LOG_ESCAPED_SIZE(128)];
	size_t len = strlen(line);

	if (value == NULL)
		return;
	log_escape(escaped, sizeof escaped, value, strlen(value));
	snprintf(line + len, size - len, " %s=%s", key, escaped);
}

void log_authorized(const struct log_session *s)
{
	char line[2560] = "";

	append_field(line, sizeof line, "user", s->user);
	append_field(line, sizeof line, "database", s->database);
	append_field(line, sizeof line, "application_name", s->application_name);
	strlcat(line, sink.peer, sizeof line);
	append_field(line, sizeof line, "backend_port", s->backend_port);
	append_field(line, sizeof line, "tls", s->tls);
	append_field(line, sizeof line, "cipher", s->cipher);
	append_field(line, sizeof line, "group", s->group);
	append_field(line, sizeof line, s->of_server ? "server_subject" : "subject", s->subject);
	append_field(line, sizeof line, s->of_server ? "server_issuer" : "issuer", s->issuer);
	append_field(line, sizeof line, s->of_server ? "server_serial" : "serial", s->serial);
	log_line(LOG_NOTICE, "connection %s:%s", s->user != NULL ? "authorized" : "received", line);
}

void log_disconnection(const struct log_session *s, int64_t now_ms)
{
	char line[1024] = "";
	int64_t ms = now_ms - s->started_ms;

	append_field(line, sizeof line, "user", s->user);
	append_field(line, sizeof line, "database", s->database);
	log_line(
	    LOG_NOTICE,
	    "disconnection: session time: %d:%02d:%02d.%03d%s%s received=%llu sent=%llu reason=%s",
	    (int)(ms / 3600000), (int)(ms / 60000 % 60), (int)(ms / 1000 % 60), (int)(ms % 1000),
	    line, sink.peer, (unsigned long long)s->received, (unsigned long long)s->sent,
	    s->reason);
}

noreturn void die(int status, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_v(LOG_ERR, sink.peer, fmt, args);
	va_end(args);
	exit(status);
}

noreturn void bug(const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	log_peer_line(LOG_CRIT, "bug: %s; please report it", text);
	exit(EX_SOFTWARE);
}
