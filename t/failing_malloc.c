/* SPDX-License-Identifier: ISC
 *
 * t/failing_malloc.c - pgssl with an allocation that fails, in a whole session: handshake, login,
 * and data both ways.
 *
 *	failing_malloc KIND FIRST STEP LAST OPTION...
 *
 * runs it for each allocation FIRST, FIRST + STEP and so on, up to LAST or until none fails any
 * more. That one alone fails, and in a second run all from there on. FIRST 0 is the first one after
 * OpenSSL's initialisation, and 0+N the N-th after that. Prints a line for each run: the number, "alone" or "on", what became of
 * the process ("exit", "signal" or "hang", and a number), what the client saw, and the log.
 *
 * KIND is a letter: s (server), p (server, behind a PROXY header), c (client mode), l (listener,
 * where the options include -d). CLIENT_PEM is the client's certificate and key, if it has one;
 * BACKEND_PEM that of PostgreSQL in client mode. The client sees "served", "refused" (an
 * ErrorResponse), "cut", or, which must never be, "wrong".
 *
 * glibc's regcomp() and the first look-up of a user crash without memory. A process that this ended
 * is reported with "glibc" instead of "signal".
 *
 * The client and PostgreSQL are processes of their own, since pgssl must be the first to use
 * OpenSSL in its. The linker inserts the functions __wrap_NAME; malloc() is replaced by the
 * one here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <regex.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <openssl/ssl.h>

#define LIMIT_S   30 /* for a run */
#define DATA_SIZE 20000

struct options;
struct error;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
int __real_main(int argc, char **argv, char **envp);
int __wrap_main(int argc, char **argv, char **envp);
int __real_regcomp(regex_t *regex, const char *text, int flags);
int __wrap_regcomp(regex_t *regex, const char *text, int flags);
struct passwd *__real_getpwnam(const char *name);
struct passwd *__wrap_getpwnam(const char *name);
bool __real_tls_apply_settings(SSL_CTX *ctx, const struct options *o, struct error *e);
bool __wrap_tls_apply_settings(SSL_CTX *ctx, const struct options *o, struct error *e);

/* ---- allocations ---- */

static unsigned long count, fail_at; /* fail_at 0: never */
static bool fail_on;

static struct shared {
	bool reached;
	bool in_glibc;
	unsigned long at_settings; /* the count after OpenSSL's initialisation */
} * shared;

static bool fails(void)
{
	count++;
	if (fail_at == 0 || count < fail_at)
		return false;
	shared->reached = true;
	errno = ENOMEM;
	return fail_on || count == fail_at;
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	return fails() ? NULL : __libc_realloc(p, size);
}

bool __wrap_tls_apply_settings(SSL_CTX *ctx, const struct options *o, struct error *e)
{
	if (shared->at_settings == 0)
		shared->at_settings = count;
	return __real_tls_apply_settings(ctx, o, e);
}

int __wrap_regcomp(regex_t *regex, const char *text, int flags)
{
	shared->in_glibc = true;
	int result = __real_regcomp(regex, text, flags);
	shared->in_glibc = false;
	return result;
}

struct passwd *__wrap_getpwnam(const char *name)
{
	shared->in_glibc = true;
	struct passwd *pw = __real_getpwnam(name);
	shared->in_glibc = false;
	return pw;
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

static const char *use_session(struct conn *c, char kind, SSL_CTX *ctx)
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

/* Uses the sockets that come through `control`, one by one, and answers what it saw. */
static noreturn void run_client(int control, char kind)
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

		if (recvmsg(control, &m, 0) != 1)
			_exit(0);
		memcpy(&c.fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof c.fd);
		limit_waits(c.fd);
		const char *saw = use_session(&c, kind, ctx);
		hang_up(&c);
		(void)!write(control, saw, 16);
	}
}

static void give_client(int control, int fd)
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

/* ---- the runs ---- */

static char kind;
static char **pgssl_argv, **environment;
static int control; /* to the client's process */

static noreturn void run_session(unsigned long at, int client, int log)
{
	int argc = 0;

	while (pgssl_argv[argc] != NULL)
		argc++;
	if ((client >= 0 && (dup2(client, STDIN_FILENO) < 0 || dup2(client, STDOUT_FILENO) < 0)) ||
	    dup2(log, STDERR_FILENO) < 0)
		abort();
	count = 0;
	fail_at = at;
	exit(__real_main(argc, pgssl_argv, environment));
}

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
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (port == NULL)
		return -1;
	sa.sin_port = htons((uint16_t)atoi(port + 7));
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0)
		abort();
	return fd;
}

/* Run it once; print what it did. */
static void report(unsigned long at, bool on)
{
	int client[2] = {-1, -1}, log[2], status;
	char text[16384] = "", saw[16] = "nothing";

	if ((kind != 'l' && socketpair(AF_UNIX, SOCK_STREAM, 0, client) != 0) || pipe(log) != 0)
		abort();
	fail_on = on;
	shared->in_glibc = false;
	pid_t pid = fork();
	if (pid == 0)
		run_session(at, client[1], log[1]);
	close(log[1]);
	close(client[1]);
	bool in_time = kind != 'l' || read_log(log[0], text, sizeof text, "listening on");
	if (kind == 'l')
		client[0] = reach_listener(text);
	if (client[0] >= 0) {
		give_client(control, client[0]);
		(void)!read(control, saw, sizeof saw);
	}
	if (kind == 'l')
		kill(pid, SIGTERM);
	in_time = read_log(log[0], text, sizeof text, NULL) && in_time;
	if (!in_time)
		kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(log[0]);
	for (char *p = text; *p != '\0'; p++)
		*p = *p == '\n' ? '|' : *p;
	bool signalled = WIFSIGNALED(status);
	const char *end = !in_time           ? "hang"
			  : !signalled       ? "exit"
			  : shared->in_glibc ? "glibc"
					     : "signal";
	printf("%lu %s %s %d %s %s\n", at, on ? "on" : "alone", end,
	       signalled ? WTERMSIG(status) : WEXITSTATUS(status), saw, text);
	fflush(stdout);
}

static void start_peers(bool tls)
{
	int ends[2], listener = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof sa;
	static char address[32];

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
			run_backend(listener, tls);
		close(ends[0]);
		run_client(ends[1], kind);
	}
	close(listener);
	close(ends[1]);
	control = ends[0];
	snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(sa.sin_port));
	for (char **p = pgssl_argv; *p != NULL; p++)
		if (strcmp(*p, "BACKEND") == 0)
			*p = address;
}

int __wrap_main(int argc, char **argv, char **envp)
{
	if (argc < 6)
		return EX_USAGE;
	unsigned long first = strtoul(argv[2], NULL, 10), step = strtoul(argv[3], NULL, 10);
	unsigned long last = strtoul(argv[4], NULL, 10);

	const char *plus = strchr(argv[2], '+');
	kind = argv[1][0];
	pgssl_argv = argv + 4;
	environment = envp;
	shared =
	    mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || step == 0)
		return EX_OSERR;
	start_peers(kind == 'c');
	report(0, false); /* none fails */
	first += first == 0 ? shared->at_settings : 0;
	first += plus != NULL ? strtoul(plus, NULL, 10) : 0;
	shared->reached = true;
	for (unsigned long at = first; at <= last && shared->reached; at += step) {
		shared->reached = false;
		report(at, false);
		report(at, true);
	}
	return 0;
}
