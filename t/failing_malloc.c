/* SPDX-License-Identifier: ISC
 *
 * t/failing_malloc.c - pgssl with an allocation that fails: `failing_malloc FIRST STEP LAST
 * OPTION...` runs it as a session for each allocation FIRST, FIRST + STEP and so on, up to LAST or
 * until none fails any more. That one alone fails, and in a second run all from there on. The
 * client sends an SSLRequest and closes its direction.
 *
 * Prints a line for each run: the number, "alone" or "on", "exit" or "signal" and its number, and
 * what was logged. The linker inserts __wrap_main; malloc() is replaced by the one here.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
int __real_main(int argc, char **argv, char **envp);
int __wrap_main(int argc, char **argv, char **envp);

static unsigned long count, fail_at; /* fail_at 0: never */
static bool fail_on, *reached;

static bool fails(void)
{
	if (fail_at == 0 || ++count < fail_at)
		return false;
	*reached = true;
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

static noreturn void run_session(char **argv, char **envp, unsigned long at, int client, int log)
{
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	if (dup2(client, STDIN_FILENO) < 0 || dup2(client, STDOUT_FILENO) < 0 ||
	    dup2(log, STDERR_FILENO) < 0)
		abort();
	fail_at = at;
	exit(__real_main(argc, argv, envp));
}

/* Run it once; print what it did. */
static void report(char **argv, char **envp, unsigned long at, bool on)
{
	static const char request[] = {0, 0, 0, 8, 0x04, (char)0xd2, 0x16, 0x2f};
	int client[2], log[2], status;
	char text[8192];
	size_t len = 0;
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, client) != 0 || pipe(log) != 0)
		abort();
	fail_on = on;
	pid_t pid = fork();
	if (pid == 0)
		run_session(argv, envp, at, client[1], log[1]);
	close(client[1]);
	close(log[1]);
	(void)!write(client[0], request, sizeof request);
	shutdown(client[0], SHUT_WR);
	while (len < sizeof text && (n = read(log[0], text + len, sizeof text - len)) > 0)
		len += (size_t)n;
	waitpid(pid, &status, 0);
	close(client[0]);
	close(log[0]);
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\n')
			text[i] = '|';
	bool signalled = WIFSIGNALED(status);
	printf("%lu %s %s %d %.*s\n", at, on ? "on" : "alone", signalled ? "signal" : "exit",
	       signalled ? WTERMSIG(status) : WEXITSTATUS(status), (int)len, text);
	fflush(stdout);
}

int __wrap_main(int argc, char **argv, char **envp)
{
	if (argc < 4)
		return EX_USAGE;
	unsigned long first = strtoul(argv[1], NULL, 10), step = strtoul(argv[2], NULL, 10);
	unsigned long last = strtoul(argv[3], NULL, 10);

	reached =
	    mmap(NULL, sizeof *reached, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reached == MAP_FAILED || step == 0)
		return EX_OSERR;
	*reached = true;
	for (unsigned long at = first; at <= last && *reached; at += step) {
		*reached = false;
		report(argv + 3, envp, at, false);
		report(argv + 3, envp, at, true);
	}
	return 0;
}
