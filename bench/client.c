/* SPDX-License-Identifier: ISC
 *
 * bench/client.c - the measuring client of bench/run: PostgreSQL's protocol with a time stamp per step.
 *
 * Not part of the product, so it may include OpenSSL. It does what libpq does where that affects a
 * figure: TCP_NODELAY, a new SSL_CTX for each connection, made after the `S`, and COPY data in
 * writes of 8192 bytes. It never resumes a TLS session. All figures go to standard output,
 * separated by tabs, times in milliseconds.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

static const char usage[] =
    "usage: client plain|postgres|direct HOST PORT MODE\n"
    "  HOST is an address or the directory of a Unix socket; MODE is one of\n"
    "  setup N [cold]    N connections: negotiation, handshake, startup, sum; cold: OpenSSL not "
    "yet initialised, as in psql\n"
    "  floor N           N connections to a program that exits at once\n"
    "  rate N SECONDS    N clients connect repeatedly: connections per second, failures\n"
    "  burst N           N clients connect at once: time of the last, served\n"
    "  session N         N sessions, then jobs from standard input: query N, copyout MB, copyin "
    "MB\n"
    "  launch PROG ...   run PROG as a super-server does and finish a handshake with it (HOST and "
    "PORT are not used)\n";

static struct {
	const char *kind, *host;
	int port;
} target;

struct conn {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
	unsigned char buf[65536];
	size_t at, end;
};

/* The times before connect, and after negotiation, handshake and startup. */
struct stamps {
	double begin, negotiated, secured, ready;
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static bool complain(const char *what)
{
	fprintf(stderr, "client: port %d: %s: %s\n", target.port, what,
		errno ? strerror(errno) : "closed");
	ERR_print_errors_fp(stderr);
	return false;
}

static bool speaks_tls(void)
{
	return strcmp(target.kind, "plain") != 0;
}

static int connect_unix(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/.s.PGSQL.%d", target.host, target.port);
	return connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 ? fd : -1;
}

static int connect_tcp(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)target.port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, target.host, &sin.sin_addr);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	return connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 ? fd : -1;
}

static bool put(struct conn *c, const void *data, size_t size)
{
	size_t done = 0;

	if (c->ssl)
		return SSL_write_ex(c->ssl, data, size, &done) == 1 || complain("write");
	while (done < size) {
		ssize_t n = write(c->fd, (const char *)data + done, size - done);
		if (n < 0)
			return complain("write");
		done += (size_t)n;
	}
	return true;
}

/* Read once into the free part of the buffer. */
static bool fill(struct conn *c)
{
	size_t got = 0;
	ssize_t n;

	if (c->at == c->end)
		c->at = c->end = 0;
	errno = 0;
	if (c->ssl) {
		if (SSL_read_ex(c->ssl, c->buf + c->end, sizeof(c->buf) - c->end, &got) != 1)
			return complain("read");
	} else {
		n = read(c->fd, c->buf + c->end, sizeof(c->buf) - c->end);
		if (n <= 0)
			return complain("read");
		got = (size_t)n;
	}
	c->end += got;
	return true;
}

static bool skip(struct conn *c, size_t size)
{
	while (size > c->end - c->at) {
		size -= c->end - c->at;
		c->at = c->end;
		if (!fill(c))
			return false;
	}
	c->at += size;
	return true;
}

/* Read messages up to one of type `last`. An ErrorResponse is a failure. */
static bool read_until(struct conn *c, char last)
{
	for (;;) {
		unsigned char *p;
		size_t size;
		char type;

		while (c->end - c->at < 5) {
			memmove(c->buf, c->buf + c->at, c->end - c->at);
			c->end -= c->at;
			c->at = 0;
			if (!fill(c))
				return false;
		}
		p = c->buf + c->at;
		type = (char)p[0];
		size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
		if (type == 'E') {
			fwrite(p + 5, 1, c->end - c->at - 5, stderr);
			return complain("ErrorResponse");
		}
		if (!skip(c, size + 1))
			return false;
		if (type == last)
			return true;
	}
}

static bool negotiate(struct conn *c)
{
	static const unsigned char request[8] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f};
	char answer;

	errno = 0;
	if (!put(c, request, sizeof(request)))
		return false;
	if (read(c->fd, &answer, 1) != 1 || answer != 'S')
		return complain("no S in answer to SSLRequest");
	return true;
}

static bool handshake(struct conn *c)
{
	errno = 0;
	c->ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION);
	if (strcmp(target.kind, "direct") == 0)
		SSL_CTX_set_alpn_protos(c->ctx, (const unsigned char *)"\012postgresql", 11);
	c->ssl = SSL_new(c->ctx);
	SSL_set_fd(c->ssl, c->fd);
	return SSL_connect(c->ssl) == 1 || complain("handshake");
}

static bool startup(struct conn *c)
{
	static const char packet[] =
	    "\0\0\0\043\0\003\0\0user\0bench\0database\0bench\0"; /* and its own NUL */

	return put(c, packet, sizeof(packet)) && read_until(c, 'Z');
}

static bool secure(struct conn *c, struct stamps *t)
{
	if (strcmp(target.kind, "postgres") == 0 && !negotiate(c))
		return false;
	t->negotiated = now_ms();
	if (speaks_tls() && !handshake(c))
		return false;
	t->secured = now_ms();
	return true;
}

static bool open_session(struct conn *c, struct stamps *t)
{
	c->ctx = NULL;
	c->ssl = NULL;
	c->at = c->end = 0;
	t->begin = now_ms();
	c->fd = target.host[0] == '/' ? connect_unix() : connect_tcp();
	if (c->fd < 0)
		return complain("connect");
	if (!secure(c, t) || !startup(c))
		return false;
	t->ready = now_ms();
	return true;
}

/* End as libpq does. Also for a session that failed half way. */
static void close_session(struct conn *c, bool polite)
{
	if (polite) {
		put(c, "X\0\0\0\004", 5);
		if (c->ssl)
			SSL_shutdown(c->ssl);
	}
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	if (c->fd >= 0)
		close(c->fd);
}

static bool ask(struct conn *c, const char *sql, char last)
{
	unsigned char packet[256] = {'Q'};
	size_t size = strlen(sql) + 5;

	packet[4] = (unsigned char)size; /* all statements are short */
	memcpy(packet + 5, sql, size - 4);
	return put(c, packet, size + 1) && read_until(c, last);
}

static bool job_query(struct conn *c, int count)
{
	while (count-- > 0)
		if (!ask(c, "select 1", 'Z'))
			return false;
	return true;
}

/* In both directions a row has 1018 letters: a CopyData message of 1024 bytes. */
static bool job_copyout(struct conn *c, int megabytes)
{
	char sql[96];

	snprintf(sql, sizeof(sql), "copy (select t from bulk limit %d) to stdout",
		 megabytes * 1024);
	return ask(c, sql, 'Z');
}

static bool job_copyin(struct conn *c, int megabytes)
{
	char block[8192];

	memset(block, 'x', sizeof(block));
	for (size_t i = 0; i < sizeof(block); i += 1024) {
		memcpy(block + i, "d\0\0\003\377",
		       5); /* 1023: the length counts itself, not the type */
		block[i + 1023] = '\n';
	}
	/* PostgreSQL parses each row and drops it: the disk does not affect the figure. */
	if (!ask(c, "copy bulk from stdin where false", 'G'))
		return false;
	for (int i = 0; i < megabytes * 128; i++)
		if (!put(c, block, sizeof(block)))
			return false;
	return put(c, "c\0\0\0\004", 5) && read_until(c, 'Z');
}

static const struct job {
	const char *name;
	bool (*run)(struct conn *, int count);
} jobs[] = {{"query", job_query}, {"copyout", job_copyout}, {"copyin", job_copyin}};

static int mode_session(int n)
{
	struct conn *all = calloc((size_t)n, sizeof(*all));
	struct stamps t;
	char word[16];
	int count;

	for (int i = 0; i < n; i++)
		if (!open_session(&all[i], &t))
			return 1;
	puts("ready");
	while (scanf("%15s %d", word, &count) == 2) {
		double begin = now_ms();
		for (size_t j = 0; j < sizeof(jobs) / sizeof(*jobs); j++)
			for (int i = 0; strcmp(word, jobs[j].name) == 0 && i < n; i++)
				if (!jobs[j].run(&all[i], count))
					return 1;
		printf("%.4f\n", now_ms() - begin);
	}
	for (int i = 0; i < n; i++)
		close_session(&all[i], true);
	return 0;
}

static int one_setup(void)
{
	static struct conn c;
	struct stamps t;

	if (!open_session(&c, &t))
		return 1;
	printf("%.4f\t%.4f\t%.4f\t%.4f\n", t.negotiated - t.begin, t.secured - t.negotiated,
	       t.ready - t.secured, t.ready - t.begin);
	close_session(&c, true);
	return 0;
}

static void initialise_openssl(void)
{
	SSL_CTX_free(SSL_CTX_new(TLS_client_method()));
}

static int mode_setup(int n, bool cold)
{
	int status = 0;

	if (speaks_tls() && !cold)
		initialise_openssl();
	while (n-- > 0 && status == 0) {
		if (!cold)
			status = one_setup();
		else if (fork() == 0)
			exit(one_setup());
		else
			wait(&status);
	}
	return status != 0;
}

static int mode_floor(int n)
{
	while (n-- > 0) {
		double begin = now_ms();
		int fd = connect_tcp();
		char byte;

		if (fd < 0 || read(fd, &byte, 1) != 0)
			return 1;
		printf("%.4f\n", now_ms() - begin);
		close(fd);
	}
	return 0;
}

/* What the forked clients of `rate` and `burst` report. */
struct tally {
	int served, failed;
	double last;
};

/* Fork `n` clients that start together; each opens sessions for `ms`, but at least one. */
static int mode_crowd(int n, double ms)
{
	struct tally *all = mmap(NULL, (size_t)n * sizeof(*all), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tally sum = {0, 0, 0};
	double begin;
	int gate[2];

	initialise_openssl();
	if (all == MAP_FAILED || pipe(gate) < 0)
		return 1;
	for (int i = 0; i < n; i++) {
		static struct conn c;
		struct stamps t;
		char byte;

		if (fork() != 0)
			continue;
		close(gate[1]);
		(void)!read(gate[0], &byte, 1); /* closing the pipe starts them */
		begin = now_ms();
		do {
			bool ok = open_session(&c, &t);
			all[i].last = now_ms();
			*(ok ? &all[i].served : &all[i].failed) += 1;
			close_session(&c, ok);
		} while (now_ms() - begin < ms);
		_exit(0);
	}
	begin = now_ms();
	close(gate[1]);
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < n; i++) {
		sum.served += all[i].served;
		sum.failed += all[i].failed;
		sum.last = all[i].last > sum.last ? all[i].last : sum.last;
	}
	printf("%d\t%d\t%.4f\n", sum.served, sum.failed, sum.last - begin);
	return 0;
}

/* Act as the super-server: run `argv` with an accepted connection as descriptors 0, 1 and 2. */
static pid_t launch(struct conn *c, char **argv)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int lfd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sin);
	pid_t pid;

	if (bind(lfd, (struct sockaddr *)&sin, len) < 0 || listen(lfd, 1) < 0 ||
	    getsockname(lfd, (struct sockaddr *)&sin, &len) < 0)
		return -1;
	target.host = "127.0.0.1";
	target.port = ntohs(sin.sin_port);
	c->fd = connect_tcp();
	pid = fork();
	if (pid != 0)
		return pid;
	signal(SIGPIPE, SIG_DFL);
	lfd = accept(lfd, NULL, NULL);
	for (int fd = 0; fd <= 2; fd++)
		dup2(lfd, fd);
	execvp(argv[0], argv);
	_exit(127);
}

static int mode_launch(char **argv)
{
	static struct conn c;
	struct stamps t;
	int status = 1;
	pid_t pid = launch(&c, argv);
	bool ok = pid > 0 && secure(&c, &t);

	if (c.ssl)
		SSL_shutdown(c.ssl);
	close(c.fd);
	waitpid(pid, &status, 0);
	return !ok;
}

int main(int argc, char **argv)
{
	int n = argc > 5 ? atoi(argv[5]) : 0;
	const char *mode = argc > 5 ? argv[4] : "";

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 5) {
		target.kind = argv[1];
		target.host = argv[2];
		target.port = atoi(argv[3]);
	}
	if (strcmp(mode, "setup") == 0)
		return mode_setup(n, argc > 6);
	if (strcmp(mode, "floor") == 0)
		return mode_floor(n);
	if (strcmp(mode, "rate") == 0 && argc > 6)
		return mode_crowd(n, 1e3 * atof(argv[6]));
	if (strcmp(mode, "burst") == 0)
		return mode_crowd(n, 0);
	if (strcmp(mode, "session") == 0)
		return mode_session(n);
	if (strcmp(mode, "launch") == 0)
		return mode_launch(argv + 5);
	fputs(usage, stderr);
	return 64;
}
