/* SPDX-License-Identifier: ISC
 *
 * t/short_calls.c - to be preloaded: recv() and send() take 1 to $SHORT bytes of a stream at a
 * time, and every fourth call fails with EINTR or EAGAIN.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned long most, state = 1;
static bool peeked;

__attribute__((constructor)) static void init(void)
{
	const char *text = getenv("SHORT"), *seed = getenv("SEED");

	most = text != NULL ? strtoul(text, NULL, 10) : 1;
	state = seed != NULL ? strtoul(seed, NULL, 10) | 1 : 1;
}

static unsigned long chance(void)
{
	state = state * 6364136223846793005U + 1442695040888963407U;
	return state >> 33;
}

static size_t shorten(size_t size)
{
	size_t n = 1 + chance() % most;

	return n < size ? n : size;
}

/* True if the sandbox forbids the question. */
static bool is_stream(int fd)
{
	int type = SOCK_STREAM;

	(void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof type});
	return type == SOCK_STREAM;
}

static bool fails(void)
{
	if (chance() % 4 != 0)
		return false;
	errno = chance() % 2 == 0 ? EINTR : EAGAIN;
	return true;
}

ssize_t recv(int fd, void *buf, size_t size, int flags)
{
	/* What recv() has shown is there. */
	bool whole = peeked || (flags & MSG_PEEK) != 0 || !is_stream(fd);

	peeked = (flags & MSG_PEEK) != 0;
	if (!whole && fails())
		return -1;
	return syscall(SYS_recvfrom, fd, buf, whole ? size : shorten(size), flags, NULL, NULL);
}

ssize_t send(int fd, const void *buf, size_t size, int flags)
{
	bool whole = !is_stream(fd);

	if (!whole && fails())
		return -1;
	return syscall(SYS_sendto, fd, buf, whole ? size : shorten(size), flags, NULL, 0);
}
