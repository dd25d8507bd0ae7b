/* SPDX-License-Identifier: ISC
 *
 * bench/relay.c - copy bytes between a client and PostgreSQL, without TLS, with one fork per
 * connection: the least that any process in the middle costs.
 *
 * Not part of the product.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in loopback(const char *port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				    .sin_port = htons((uint16_t)atoi(port))};
}

/* False at the end of `from`. */
static bool copy(int from, int to)
{
	static char buf[65536];
	ssize_t n = read(from, buf, sizeof buf);

	for (ssize_t at = 0, put; at < n; at += put)
		if ((put = write(to, buf + at, (size_t)(n - at))) < 0)
			return false;
	return n > 0;
}

/* Either end is the end of both: PostgreSQL's protocol has no half-closed connections. */
static void relay(int client, const struct sockaddr_in *to)
{
	int backend = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
	struct pollfd p[2] = {{.fd = client, .events = POLLIN}, {.fd = backend, .events = POLLIN}};

	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	setsockopt(backend, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	if (connect(backend, (const struct sockaddr *)to, sizeof *to) != 0)
		return;
	while (poll(p, 2, -1) > 0)
		if ((p[0].revents != 0 && !copy(client, backend)) ||
		    (p[1].revents != 0 && !copy(backend, client)))
			return;
}

int main(int argc, char **argv)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	if (argc != 3) {
		fputs("usage: relay PORT BACKEND-PORT\n", stderr);
		return 64;
	}
	struct sockaddr_in at = loopback(argv[1]), to = loopback(argv[2]);
	signal(SIGCHLD, SIG_IGN);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 4096) != 0) {
		perror("relay");
		return 71;
	}
	for (;;) {
		int client = accept(listener, NULL, NULL);

		if (client >= 0 && fork() == 0) {
			close(listener);
			relay(client, &to);
			return 0;
		}
		close(client);
	}
}
