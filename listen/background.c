/* SPDX-License-Identifier: ISC
 *
 * listen/background.c - -d without -f: go to the background, and report a failed start to the
 * starter.
 *
 * The fork comes before anything is bound, opened or locked: all that belongs to the process that
 * stays.
 */
#include "listen/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int starter_pipe = -1;
static int null_fd = -1; /* opened before the sandbox closes the file system */

/*
 * In the starting process: a byte means that the listener is ready, the end of the pipe that it
 * has exited.
 */
static noreturn void await_ready(pid_t pid, int fd)
{
	char byte;
	int status = 0;
	ssize_t n;

	while ((n = read(fd, &byte, 1)) < 0 && errno == EINTR)
		;
	if (n == 1)
		_exit(EX_OK);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EX_OSERR);
}

void background_begin(void)
{
	int ends[2];

	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (null_fd < 0 || pipe2(ends, O_CLOEXEC) < 0)
		die(EX_OSERR, "could not go to the background: %s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		die(EX_OSERR, "could not go to the background: %s", strerror(errno));
	if (pid > 0) {
		close(ends[1]);
		await_ready(pid, ends[0]);
	}
	close(ends[0]);
	starter_pipe = ends[1];
	setsid();
}

void background_ready(void)
{
	if (starter_pipe < 0)
		return;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		(void)!dup2(null_fd, fd);
	close(null_fd);
	(void)!write(starter_pipe, "", 1);
	close(starter_pipe);
	starter_pipe = -1;
}
