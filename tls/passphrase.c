/* SPDX-License-Identifier: ISC
 *
 * tls/passphrase.c - --passphrase-command (step 3, before any client byte is parsed and before privileges are given up).
 *
 * The command is the operator's; still it gets none of the client's descriptors: what it printed there would go to the client in clear.
 */
#include "tls/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/stream.h"

#define TIMEOUT_MS 10000
#define LOOK_MS    10 /* how often the command's end is looked for */

static bool keep;
static char kept[1024]; /* "": not yet known */

void passphrase_keep(void)
{
	keep = true;
}

void passphrase_forget(void)
{
	keep = false;
	explicit_bzero(kept, sizeof kept);
}

static noreturn void run(const char *command, int out)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	if (null < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0)
		_exit(EX_OSERR);
	closefrom(STDERR_FILENO + 1);
	setpgid(0, 0); /* so that all that it starts can be killed */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

/* Read until the end, a newline, or `size` bytes; true when something complete was read. */
static bool read_line(int fd, char *buf, size_t size, deadline when)
{
	size_t len = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (stream_poll(&p, 1, when) != IO_DONE)
			return false;
		ssize_t n = read(fd, buf + len, size - 1 - len);
		if (n < 0)
			return false;
		len += (size_t)n;
		buf[len] = '\0';
		char *newline = strpbrk(buf, "\r\n");
		if (newline != NULL)
			*newline = '\0';
		if (newline != NULL || n == 0)
			return true;
		if (len == size - 1)
			return false;
	}
}

/* Wait for the command's end, until the same deadline: one that has closed its output may still run. */
static bool await_end(pid_t pid, int *status, deadline when)
{
	for (;;) {
		pid_t ended = waitpid(pid, status, WNOHANG);

		if (ended != 0)
			return ended == pid;
		if (stream_poll(NULL, 0, deadline_min(when, deadline_in(LOOK_MS))) != IO_TIMEOUT ||
		    deadline_left(when) == 0)
			return false;
	}
}

static bool ask(const char *command, char *buf, size_t size, struct error *e)
{
	int ends[2], status = 0;

	buf[0] = '\0';
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail(e, EX_OSERR, "--passphrase-command: %s", strerror(errno));
	pid_t pid = fork();
	if (pid == 0)
		run(command, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return fail(e, EX_OSERR, "--passphrase-command: %s", strerror(errno));
	}
	deadline when = deadline_in(TIMEOUT_MS);
	bool complete = read_line(ends[0], buf, size, when);
	close(ends[0]);
	complete = complete && await_end(pid, &status, when);
	if (!complete) {
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	if (!complete && stream_terminated())
		return fail(e, EX_TEMPFAIL, "terminated by SIGTERM while --passphrase-command ran");
	if (!complete)
		return fail(e, EX_CONFIG,
			    "--passphrase-command did not end within %d s with a passphrase of at "
			    "most %zu bytes",
			    TIMEOUT_MS / 1000, size - 1);
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		return fail(e, EX_CONFIG, "--passphrase-command failed with exit status %d",
			    WEXITSTATUS(status));
	if (buf[0] == '\0')
		return fail(
		    e, EX_CONFIG,
		    "--passphrase-command printed nothing; its first line must be the passphrase");
	return true;
}

bool passphrase_read(const char *command, char *buf, size_t size, struct error *e)
{
	if (kept[0] != '\0')
		return strlcpy(buf, kept, size) < size ||
		       fail(e, EX_CONFIG, "--passphrase-command gave too much");
	if (!ask(command, buf, size, e))
		return false;
	if (keep)
		strlcpy(kept, buf, sizeof kept);
	return true;
}
