/* SPDX-License-Identifier: ISC
 *
 * listen/inherit.c - step 0: the listening sockets of a super-server whose service waits.
 *
 * inetd and xinetd put theirs on standard input. systemd passes its sockets from descriptor 3 on
 * and says how many in LISTEN_FDS (sd_listen_fds(3)); with StandardInput=socket also on standard
 * input. An instance of Accept=yes has a connection there instead, and LISTEN_FDS names it too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listen/internal.h"
#include "listen/listen.h"

#define FIRST_PASSED (STDERR_FILENO + 1)

static unsigned passed; /* by LISTEN_FDS */
static bool on_stdin;

/* SO_ACCEPTCONN and the like; 0 if `fd` is no socket. */
static int socket_option(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof value;

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : 0;
}

static bool is_listening(int fd)
{
	return socket_option(fd, SO_ACCEPTCONN) != 0;
}

/* The number in LISTEN_FDS if LISTEN_PID is this process, else 0. */
static unsigned read_listen_fds(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS"), *wrong;

	if (pid == NULL || fds == NULL)
		return 0;
	long long owner = strtonum(pid, 1, INT32_MAX, &wrong);
	if (wrong != NULL || owner != getpid())
		return 0;
	unsigned n = (unsigned)strtonum(fds, 1, 1024, &wrong);
	return wrong == NULL ? n : 0;
}

static bool is_connection(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;

	return getpeername(fd, (struct sockaddr *)&sa, &len) == 0;
}

int listen_inherit(void)
{
	unsigned n = read_listen_fds();

	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PIDFDID");
	unsetenv("LISTEN_FDNAMES");
	on_stdin = is_listening(STDIN_FILENO);
	/* In a session it is a copy of standard input, whose client may have left. */
	passed = socket_option(STDIN_FILENO, SO_TYPE) != 0 && !on_stdin ? 0 : n;
	for (unsigned i = 0; i < passed; i++)
		(void)fcntl(FIRST_PASSED + (int)i, F_SETFD, FD_CLOEXEC);
	return FIRST_PASSED + (int)passed;
}

bool listen_inherited(void)
{
	return on_stdin || passed > 0;
}

void listen_turn_one_away(void)
{
	int first = passed > 0 ? FIRST_PASSED : STDIN_FILENO;

	for (int fd = first; fd < first + (passed > 0 ? (int)passed : 1); fd++) {
		if (!is_listening(fd))
			continue;
		(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (client >= 0) {
			close(client);
			return;
		}
	}
}

static bool check_passed(int fd, struct error *e)
{
	if (is_listening(fd) && socket_option(fd, SO_TYPE) == SOCK_STREAM)
		return true;
	return fail(e, EX_USAGE,
		    is_connection(fd)
			? "descriptor %d is a connection: Accept=yes needs StandardInput=socket"
			: "descriptor %d is not a listening stream socket (see ListenStream= in "
			  "systemd.socket(5))",
		    fd);
}

/*
 * Leave no second way to the sockets: a process that the listener forks for something else than a
 * client has its standard input and output too.
 */
static bool cover_standard(struct error *e)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
		if (is_listening(fd) && (null < 0 || dup2(null, fd) < 0))
			return fail(e, EX_OSERR, "could not open /dev/null: %s", strerror(errno));
	close(null);
	return true;
}

bool inherit_sockets(int *fds, unsigned max, unsigned *count, struct error *e)
{
	int first = passed > 0 ? FIRST_PASSED : STDIN_FILENO;
	unsigned n = passed > 0 ? passed : 1;

	if (n > max)
		return fail(e, EX_USAGE, "%u listening sockets passed: at most %u are supported", n,
			    max);
	for (unsigned i = 0; i < n; i++) {
		fds[i] = first + (int)i;
		if (!check_passed(fds[i], e))
			return false;
		if (fds[i] != STDIN_FILENO)
			continue;
		/* Children put their client there. */
		fds[i] = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, FIRST_PASSED);
		if (fds[i] < 0)
			return fail(e, EX_OSERR, "could not duplicate standard input: %s",
				    strerror(errno));
	}
	*count = n;
	return cover_standard(e);
}
