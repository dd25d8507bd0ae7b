/* SPDX-License-Identifier: ISC
 *
 * t/crowd.c - the two sides of a flood, and what stands behind the program while it lasts.
 *
 * All of 127.0.0.0/8 is this machine, so each client can have an address of its own.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#define MOST_TIMES 100000 /* of one client */
#define AGAIN_MS   5000   /* a silent client that was turned away comes again */

static const char usage[] =
    "usage: crowd backend PORT             answer each startup packet\n"
    "       crowd good PORT N SECONDS [M]  N addresses log in again and again, M times at most:\n"
    "                                      logins, failures, median and 99th percentile in ms\n"
    "       crowd silent PORT SOURCES N    N sockets from each of these addresses, held\n";

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static struct sockaddr_in address(uint32_t host, int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(host),
				    .sin_port = htons((uint16_t)port)};
}

static int connect_from(uint32_t host, int port, int flags)
{
	struct sockaddr_in from = address(host, 0), to = address(INADDR_LOOPBACK, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	/* The port is chosen at connect(), where it need only be unique for this pair. */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	if (bind(fd, (struct sockaddr *)&from, sizeof from) == 0 &&
	    (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS))
		return fd;
	close(fd);
	return -1;
}

/* ---- backend ---- */

static void answer_startup(struct pollfd *p)
{
	static const char ready[] = "R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"; /* trust, and idle */
	char data[4096];
	ssize_t n = read(p->fd, data, sizeof data);

	if (n > 0 && data[0] == '\0') {
		(void)!write(p->fd, ready, sizeof ready - 1);
	} else {
		close(p->fd);
		p->fd = -1;
	}
}

static int run_backend(int port)
{
	static struct pollfd all[1024];
	struct sockaddr_in sin = address(INADDR_LOOPBACK, port);
	unsigned n = 1;

	all[0] = (struct pollfd){.fd = socket(AF_INET, SOCK_STREAM, 0), .events = POLLIN};
	setsockopt(all[0].fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (bind(all[0].fd, (struct sockaddr *)&sin, sizeof sin) != 0 ||
	    listen(all[0].fd, 4096) != 0)
		return 1;
	puts("ready");
	for (;;) {
		poll(all, n, -1);
		for (unsigned i = 1; i < n; i++)
			if (all[i].revents != 0)
				answer_startup(&all[i]);
		for (unsigned i = 1; i < n; i++)
			while (i < n && all[i].fd < 0)
				all[i] = all[--n];
		if (all[0].revents != 0 && n < 1024)
			all[n++] =
			    (struct pollfd){.fd = accept(all[0].fd, NULL, NULL), .events = POLLIN};
	}
}

/* ---- good clients ---- */

static bool log_in(int fd, SSL *ssl)
{
	static const char request[8] = {0, 0, 0, 8, 0x04, (char)0xd2, 0x16, 0x2f};
	static const char startup[] = "\0\0\0\043\0\003\0\0user\0alice\0database\0sales\0";
	char data[1024];
	size_t n, total = 0;

	if (write(fd, request, sizeof request) != sizeof request || read(fd, data, 1) != 1 ||
	    data[0] != 'S')
		return false;
	SSL_set_fd(ssl, fd);
	if (SSL_connect(ssl) != 1 || SSL_write_ex(ssl, startup, sizeof startup, &n) != 1)
		return false;
	while (total < 15) {
		if (SSL_read_ex(ssl, data + total, sizeof data - total, &n) != 1)
			return false;
		total += n;
	}
	bool ok = data[0] == 'R';
	(void)SSL_write_ex(ssl, "X\0\0\0\4", 5, &n);
	SSL_shutdown(ssl);
	return ok;
}

struct tally {
	unsigned served, failed;
	float times[MOST_TIMES];
};

static void run_client(struct tally *t, uint32_t host, int port, double end, unsigned most)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	while (now_ms() < end && t->served < most) {
		SSL *ssl = SSL_new(ctx);
		double begin = now_ms();
		int fd = connect_from(host, port, 0);
		if (fd >= 0 && log_in(fd, ssl))
			t->times[t->served++] = (float)(now_ms() - begin);
		else
			t->failed++;
		SSL_free(ssl);
		close(fd);
	}
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static int report(const struct tally *all, int clients)
{
	unsigned served = 0, failed = 0, n = 0;

	for (int i = 0; i < clients; i++) {
		served += all[i].served;
		failed += all[i].failed;
	}
	float *times = calloc(served + 1, sizeof *times);
	for (int i = 0; i < clients; i++)
		for (unsigned j = 0; j < all[i].served; j++)
			times[n++] = all[i].times[j];
	qsort(times, n, sizeof *times, compare);
	printf("%u\t%u\t%.1f\t%.1f\n", served, failed, times[n / 2],
	       times[(unsigned)((double)n * 0.99)]);
	free(times);
	return 0;
}

static int run_good(int port, int clients, double seconds, unsigned most)
{
	struct tally *all = mmap(NULL, (size_t)clients * sizeof *all, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (all == MAP_FAILED)
		return 1;
	SSL_CTX_free(SSL_CTX_new(TLS_client_method())); /* before the forks, once */
	for (int i = 0; i < clients; i++) {
		if (fork() == 0) {
			run_client(&all[i], INADDR_LOOPBACK + 0x10000 + (uint32_t)i, port,
				   now_ms() + seconds * 1e3, most);
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	return report(all, clients);
}

/* ---- silent clients ---- */

struct silent {
	uint32_t host;
	int fd;
	double again; /* if fd is -1 */
};

static void keep_silent(int epoll, struct silent *s, int port)
{
	struct epoll_event ev = {.events = EPOLLRDHUP, .data.ptr = s};

	s->again = now_ms() + AGAIN_MS;
	s->fd = connect_from(s->host, port, SOCK_NONBLOCK);
	if (s->fd >= 0)
		epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &ev);
}

static void close_ended(int epoll)
{
	struct epoll_event ended[256];
	int n = epoll_wait(epoll, ended, 256, 5);

	for (int i = 0; i < n; i++) {
		struct silent *s = ended[i].data.ptr;
		close(s->fd);
		s->fd = -1;
		s->again = now_ms() + AGAIN_MS;
	}
}

static noreturn void run_silent(int port, unsigned sources, unsigned each)
{
	unsigned n = sources * each;
	struct silent *all = calloc(n, sizeof *all);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_max >= n + 16) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	for (unsigned i = 0; i < n; i++) {
		all[i] = (struct silent){.host = INADDR_LOOPBACK + 0x20000 + i % sources};
		keep_silent(epoll, &all[i], port);
		usleep(200); /* spread over a second, and so are those that come again */
	}
	puts("ready");
	for (;;) {
		close_ended(epoll);
		for (unsigned i = 0; i < n; i++)
			if (all[i].fd < 0 && all[i].again < now_ms())
				keep_silent(epoll, &all[i], port);
	}
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";
	int port = argc > 2 ? atoi(argv[2]) : 0;

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(mode, "backend") == 0)
		return run_backend(port);
	if (strcmp(mode, "good") == 0 && (argc == 5 || argc == 6))
		return run_good(port, atoi(argv[3]), atof(argv[4]),
				argc == 6 ? (unsigned)atoi(argv[5]) : MOST_TIMES);
	if (strcmp(mode, "silent") == 0 && argc == 5)
		run_silent(port, (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
	fputs(usage, stderr);
	return 64;
}
