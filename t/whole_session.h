/* SPDX-License-Identifier: ISC
 *
 * t/whole_session.h - for programs that make pgssl fail: a client, a PostgreSQL, and what becomes
 * of a session between them, with handshake, login and data both ways.
 *
 * A session has a kind: s (server), p (server, behind a PROXY header), c (client mode),
 * l (listener, where the options include -d), n (a command without a client, such as --check, whose
 * output goes to the log). CLIENT_PEM is the client's certificate and key, if it has one;
 * BACKEND_PEM that of PostgreSQL in client mode. The client sees "served", "refused" (an
 * ErrorResponse), "cut", or, which must never be, "wrong" or "late" (LIMIT_S).
 *
 * The client and PostgreSQL are processes of their own, since pgssl must be the first to use
 * OpenSSL in its.
 */
#ifndef PGSSL_WHOLE_SESSION_H
#define PGSSL_WHOLE_SESSION_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#define LIMIT_S   30 /* for a run */
#define DATA_SIZE 20000
#define SAW_SIZE  16

static char kind;
static int control; /* to the client's process */
static char backend_address[32];

static bool has_client(void) /* on standard input */
{
	return kind != 'l' && kind != 'n';
}

/* ---- a connection of the client or of PostgreSQL, with or without TLS ---- */

struct conn {
	int fd;
	SSL *ssl;
};

static bool send_all(const struct conn *c, const void *bytes, size_t n)
{
	size_t put = 0;

	if (c->ssl == NULL)
		return send(c->fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n;
	return SSL_write_ex(c->ssl, bytes, n, &put) == 1 && put == n;
}

static bool receive(const struct conn *c, void *bytes, size_t n)
{
	for (size_t at = 0, got = 0; at < n; at += got) {
		char *to = (char *)bytes + at;
		if (c->ssl == NULL) {
			ssize_t r = recv(c->fd, to, n - at, 0);
			got = r > 0 ? (size_t)r : 0;
		} else if (SSL_read_ex(c->ssl, to, n - at, &got) != 1) {
			got = 0;
		}
		if (got == 0)
			return false;
	}
	return true;
}

/* Byte number `at` of the client's data, and of the answer to it. */
static char data_byte(size_t at, bool answer)
{
	return (char)((at * 2654435761U >> 11) ^ (answer ? 0x55 : 0));
}

static bool send_data(const struct conn *c, bool answer)
{
	char data[DATA_SIZE];

	for (size_t i = 0; i < DATA_SIZE; i++)
		data[i] = data_byte(i, answer);
	return send_all(c, data, DATA_SIZE);
}

/* "served", "cut" or "wrong" */
static const char *receive_data(const struct conn *c, bool answer)
{
	char data[DATA_SIZE];

	if (!receive(c, data, DATA_SIZE))
		return "cut";
	for (size_t i = 0; i < DATA_SIZE; i++)
		if (data[i] != data_byte(i, answer))
			return "wrong";
	return "served";
}

static SSL_CTX *context(const SSL_METHOD *method, const char *pem)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (pem != NULL && (SSL_CTX_use_certificate_chain_file(ctx, pem) != 1 ||
			    SSL_CTX_use_PrivateKey_file(ctx, pem, SSL_FILETYPE_PEM) != 1))
		abort();
	SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
	return ctx;
}

static bool handshake(struct conn *c, SSL_CTX *ctx, bool server)
{
	c->ssl = SSL_new(ctx);
	SSL_set_fd(c->ssl, c->fd);
	return (server ? SSL_accept(c->ssl) : SSL_connect(c->ssl)) == 1;
}

static void hang_up(struct conn *c)
{
	if (c->ssl != NULL)
		(void)SSL_shutdown(c->ssl);
	SSL_free(c->ssl);
	close(c->fd);
}

static void limit_waits(int fd)
{
	struct timeval limit = {.tv_sec = LIMIT_S};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* ---- PostgreSQL ---- */

static const char ssl_request[8] = {0, 0, 0, 8, 0x04, (char)0xd2, 0x16, 0x2f};
static const char startup[] = "\0\0\0\x23\0\3\0\0user\0alice\0database\0sales\0";
static const char welcome[] = {'R', 0, 0, 0, 8, 0, 0, 0, 0, 'Z', 0, 0, 0, 5, 'I'};

static void serve_client(struct conn *c, SSL_CTX *ctx)
{
	char got[sizeof startup];

	if (ctx != NULL && (!receive(c, got, sizeof ssl_request) || !send_all(c, "S", 1) ||
			    !handshake(c, ctx, true)))
		return;
	if (receive(c, got, sizeof startup) && memcmp(got, startup, sizeof startup) == 0 &&
	    send_all(c, welcome, sizeof welcome) && receive_data(c, false)[0] == 's' &&
	    send_data(c, true))
		(void)receive(c, got, 1); /* until the client leaves */
}

static noreturn void run_backend(int listener, bool tls)
{
	SSL_CTX *ctx = tls ? context(TLS_server_method(), getenv("BACKEND_PEM")) : NULL;

	for (;;) {
		struct conn c = {.fd = accept(listener, NULL, NULL)};
		limit_waits(c.fd);
		serve_client(&c, ctx);
		hang_up(&c);
	}
}

/* ---- the client ---- */

static const char *use_session(struct conn *c, SSL_CTX *ctx)
{
	static const char proxy[] = "PROXY TCP4 192.0.2.1 192.0.2.2 4000 5432\r\n";
	char got[sizeof welcome];

	if (kind == 'p' && !send_all(c, proxy, sizeof proxy - 1))
		return "cut";
	if (kind != 'c' && (!send_all(c, ssl_request, sizeof ssl_request) || !receive(c, got, 1) ||
			    got[0] != 'S' || !handshake(c, ctx, false)))
		return "cut";
	if (!send_all(c, startup, sizeof startup) || !receive(c, got, 1))
		return "cut";
	if (got[0] == 'E')
		return "refused";
	if (!receive(c, got + 1, sizeof welcome - 1))
		return "cut";
	if (memcmp(got, welcome, sizeof welcome) != 0)
		return "wrong";
	return send_data(c, false) ? receive_data(c, true) : "cut";
}

/* Uses the sockets that come `from` give_client, one by one, and answers what it saw. */
static noreturn void run_client(int from)
{
	SSL_CTX *ctx = context(TLS_client_method(), getenv("CLIENT_PEM"));

	for (;;) {
		char byte, room[CMSG_SPACE(sizeof(int))];
		struct iovec iov = {&byte, 1};
		struct msghdr m = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = room,
				   .msg_controllen = sizeof room};
		struct conn c = {.fd = -1};

		if (recvmsg(from, &m, 0) != 1)
			_exit(0);
		memcpy(&c.fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof c.fd);
		limit_waits(c.fd);
		char saw[SAW_SIZE] = "";
		time_t begin = time(NULL);
		snprintf(saw, sizeof saw, "%s", use_session(&c, ctx));
		if (time(NULL) - begin >= LIMIT_S - 1) /* one of the peers lost its patience */
			snprintf(saw, sizeof saw, "late");
		hang_up(&c);
		(void)!write(from, saw, sizeof saw);
	}
}

static void give_client(int fd)
{
	char byte = 0, room[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	*h = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	if (sendmsg(control, &m, 0) != 1)
		abort();
	close(fd);
}

/* ---- runs ---- */

/* What is logged, up to `until` or the end; false: the time is over. */
static bool read_log(int fd, char *text, size_t size, const char *until)
{
	size_t len = strlen(text);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	while (until == NULL || strstr(text, until) == NULL) {
		if (poll(&p, 1, LIMIT_S * 1000) <= 0)
			return false;
		ssize_t n = read(fd, text + len, size - 1 - len);
		if (n <= 0)
			return true;
		len += (size_t)n;
		text[len] = '\0';
	}
	return true;
}

/* A socket to the listener; -1: it has ended. */
static int reach_listener(const char *log)
{
	const char *port = strstr(log, ", port ");
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (port == NULL)
		return -1;
	sa.sin_port = htons((uint16_t)atoi(port + 7));
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
		return fd;
	close(fd);
	return -1;
}

/* A run and its end. */
struct run {
	bool in_time;
	int status; /* as waitpid(2) has it */
	char saw[SAW_SIZE], log[16384];
};

static pid_t fork_plainly(void) /* perhaps within a lock of glibc's */
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void use_descriptors(const int client[2], const int log[2])
{
	if (kind == 'n' && dup2(open("/dev/null", O_RDWR | O_CLOEXEC), 0) < 0)
		abort();
	if ((has_client() && (dup2(client[1], 0) < 0 || dup2(client[1], 1) < 0)) ||
	    (kind == 'n' && dup2(log[1], 1) < 0) || dup2(log[1], 2) < 0)
		abort();
	for (int i = 0; i < 2; i++) {
		close(log[i]);
		if (has_client())
			close(client[i]);
	}
}

/*
 * `start` is called in a new process, which has the client on descriptors 0 and 1. If it returns
 * there, so does this, with false.
 */
static bool run_once(struct run *r, void (*start)(void *arg), void *arg)
{
	int client[2] = {-1, -1}, log[2];

	*r = (struct run){.saw = "nothing"};
	if ((has_client() && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client) != 0) ||
	    pipe2(log, O_CLOEXEC) != 0)
		abort();
	pid_t pid = fork_plainly();
	if (pid == 0) {
		setpgid(0, 0);
		use_descriptors(client, log);
		start(arg);
		return false;
	}
	close(log[1]);
	close(client[1]);
	r->in_time = kind != 'l' || read_log(log[0], r->log, sizeof r->log, "listening on");
	if (kind == 'l')
		client[0] = reach_listener(r->log);
	if (client[0] >= 0) {
		give_client(client[0]);
		(void)!read(control, r->saw, sizeof r->saw);
	}
	if (kind == 'l' && client[0] >= 0) /* it may run under another program */
		kill(atoi(strchr(r->log, '[') + 1), SIGTERM);
	r->in_time = read_log(log[0], r->log, sizeof r->log, NULL) && r->in_time;
	if (!r->in_time)
		kill(-pid, SIGKILL);
	waitpid(pid, &r->status, 0);
	close(log[0]);
	for (char *p = r->log; *p != '\0'; p++)
		*p = *p == '\n' ? '|' : *p;
	return true;
}

static void start_peers(void)
{
	int ends[2], listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof sa;

	if (bind(listener, (struct sockaddr *)&sa, len) != 0 || listen(listener, 16) != 0 ||
	    getsockname(listener, (struct sockaddr *)&sa, &len) != 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
		abort();
	for (int i = 0; i < 2; i++) {
		if (fork() != 0)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		if (i == 0)
			run_backend(listener, kind == 'c');
		close(ends[0]);
		run_client(ends[1]);
	}
	close(listener);
	close(ends[1]);
	control = ends[0];
	snprintf(backend_address, sizeof backend_address, "127.0.0.1:%d", ntohs(sa.sin_port));
}

#endif
