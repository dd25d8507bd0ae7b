/* SPDX-License-Identifier: ISC
 *
 * listen/background.c - -d without -f: a start that failed is seen by whoever started.
 *
 * The fork comes first, before anything is bound, opened or locked: then all of it belongs to the process that stays.
 */
#include "listen/background.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"

static int starter = -1; /* a pipe to it */
static int null = -1;    /* opened before step 5 shuts the file system */

/* The process that was started: one byte says that all is well, the end of the pipe that the other one is gone. */
static noreturn void await(pid_t pid, int fd)
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

	null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (null < 0 || pipe2(ends, O_CLOEXEC) < 0)
		die(EX_OSERR, "could not go to the background: %s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		die(EX_OSERR, "could not go to the background: %s", strerror(errno));
	if (pid > 0) {
		close(ends[1]);
		await(pid, ends[0]);
	}
	close(ends[0]);
	starter = ends[1];
	setsid();
}

void background_detach(void)
{
	if (null < 0)
		return;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		(void)!dup2(null, fd);
	close(null);
	null = -1;
}

void background_ready(void)
{
	if (starter < 0)
		return;
	(void)!write(starter, "", 1);
	close(starter);
	starter = -1;
}
