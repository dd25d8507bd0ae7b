/* SPDX-License-Identifier: ISC
 *
 * tls/passphrase.c - --passphrase-command (step 3, before privileges are dropped).
 *
 * The command gets none of the client's descriptors: what it printed there would go to the client
 * in clear.
 */
#include "tls/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/stream.h"

#define TIMEOUT_MS 10000
#define POLL_MS    10 /* how often to look whether the command has ended */

static bool keep;
static char kept[1024]; /* "": not yet known */

void tls_keep_passphrase(void)
{
	keep = true;
}

void tls_forget_passphrase(void)
{
	keep = false;
	if (kept[0] != '\0') /* else a child need not touch the page */
		explicit_bzero(kept, sizeof kept);
}

static noreturn void run_passphrase_command(const char *command, int out)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	if (null < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0)
		_exit(EX_OSERR);
	closefrom(STDERR_FILENO + 1);
	setpgid(0, 0); /* to kill with it what it starts */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

/*
 * Read up to a newline or the end of file; false if the line does not fit or has a NUL, or `when`
 * has passed.
 */
static bool read_passphrase_line(int fd, char *buf, size_t size, deadline when)
{
	size_t len = 0, line;
	ssize_t n;

	do {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (stream_poll(&p, 1, when) != IO_DONE ||
		    (n = read(fd, buf + len, size - 1 - len)) < 0)
			return false;
		len += (size_t)n;
		buf[len] = '\0';
		line = strcspn(buf, "\r\n");
	} while (n > 0 && line == len && len < size - 1);
	bool complete = n == 0 || buf[line] != '\0';
	buf[line] = '\0';
	return complete;
}

/* A command that has closed its output may still run: the deadline holds for its end, too. */
static bool await_command(pid_t pid, int *status, deadline when)
{
	pid_t ended;

	while ((ended = waitpid(pid, status, WNOHANG)) == 0)
		if (stream_poll(NULL, 0, deadline_min(when, deadline_in(POLL_MS))) != IO_TIMEOUT ||
		    deadline_left(when) == 0)
			return false;
	return ended == pid;
}

/* True if the command ended in time. */
static bool collect_passphrase(pid_t pid, int fd, char *buf, size_t size, int *status)
{
	deadline when = deadline_in(TIMEOUT_MS);
	bool complete = read_passphrase_line(fd, buf, size, when);

	close(fd);
	complete = complete && await_command(pid, status, when);
	if (!complete) {
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		while (waitpid(pid, status, 0) < 0 && errno == EINTR)
			;
	}
	return complete;
}

static bool ask_passphrase(const char *command, char *buf, size_t size, struct error *e)
{
	int ends[2], status = 0;
	pid_t pid = -1;

	buf[0] = '\0';
	if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		return fail(e, EX_OSERR, "--passphrase-command: %s", strerror(errno));
	if (pid == 0)
		run_passphrase_command(command, ends[1]);
	close(ends[1]);
	if (!collect_passphrase(pid, ends[0], buf, size, &status))
		return stream_terminated()
			   ? fail(e, EX_TEMPFAIL,
				  "terminated by SIGTERM while --passphrase-command ran")
			   : fail(e, EX_CONFIG,
				  "--passphrase-command did not print a passphrase of at most %zu "
				  "bytes, none of them NUL, and exit within %d s",
				  size - 2, TIMEOUT_MS / 1000);
	if (WIFSIGNALED(status))
		return fail(e, EX_CONFIG, "--passphrase-command was ended by signal %d",
			    WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return fail(e, EX_CONFIG, "--passphrase-command failed with exit status %d",
			    WEXITSTATUS(status));
	return buf[0] != '\0' ||
	       fail(e, EX_CONFIG,
		    "--passphrase-command printed nothing; its first line must be the passphrase");
}

bool tls_read_passphrase(const char *command, char *buf, size_t size, struct error *e)
{
	if (kept[0] != '\0')
		return strlcpy(buf, kept, size) < size ||
		       fail(e, EX_CONFIG,
			    "--passphrase-command printed a passphrase of more than %zu bytes",
			    size - 1);
	if (!ask_passphrase(command, buf, size, e))
		return false;
	if (keep)
		strlcpy(kept, buf, sizeof kept);
	return true;
}
