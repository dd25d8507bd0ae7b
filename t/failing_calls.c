/* SPDX-License-Identifier: ISC
 *
 * t/failing_calls.c - sessions of pgssl in which a system call fails:
 *
 *	failing_calls KIND <COMMANDS
 *
 * runs each line of its input, words between single blanks, and prints what became of it: "exit",
 * "signal" or "hang", a number, what the client saw, and the log. t/whole_session.h explains the
 * rest.
 *
 * A command after "fail PROCESS CALL WHEN RESULT" is traced: the system call with the number CALL,
 * when it is made the WHEN-th time, does nothing and returns RESULT. If that says that a connection
 * is lost, it is lost. PROCESS 0 is the command and 1 the first that it forks. If there was no such
 * call, the result is "missed".
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <elf.h>
#include <linux/ptrace.h>
#include <stddef.h>
#include <sysexits.h>

#include "whole_session.h"

enum { WORDS_MAX = 100, TRACED_MAX = 8, FAIL_WORDS = 5 };

/* ---- the tracer, a process between failing_calls and the command ---- */

static struct failure {
	long process, call, when, result;
	bool happened;
} * failure; /* shared */

static struct traced {
	pid_t pid;
	long made;
	bool failing; /* this call, which has begun */
} traced[TRACED_MAX];

#if defined(__x86_64__)
static void set_call(pid_t pid, int number)
{
	ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), (long)number);
}

static void set_result(pid_t pid, long result)
{
	ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), result);
}
#else
static void set_call(pid_t pid, int number)
{
	struct iovec iov = {&number, sizeof number};

	ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &iov);
}

static void set_result(pid_t pid, long result)
{
	struct user_regs_struct regs;
	struct iovec iov = {&regs, sizeof regs};

	ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov);
	regs.regs[0] = (unsigned long)result;
	ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &iov);
}
#endif

static struct traced *find_traced(pid_t pid)
{
	struct traced *t = traced;

	while (t->pid != pid && t->pid != 0)
		t++;
	if (t == traced + TRACED_MAX - 1)
		abort();
	return t;
}

/* Else the program would rightly wait for what the peer has sent before. */
static void lose_connection(pid_t pid, int fd)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0);
	int copy = (int)syscall(SYS_pidfd_getfd, process, fd, 0);

	if (copy < 0)
		abort();
	shutdown(copy, SHUT_RDWR);
	close(copy);
	close(process);
}

/* A call begins or ends. getpid(), which changes nothing, takes the place of one that must fail. */
static void pass_call(struct traced *t)
{
	struct ptrace_syscall_info info = {.op = PTRACE_SYSCALL_INFO_NONE};
	long r = failure->result;

	ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, sizeof info, &info);
	if (t->failing) {
		set_result(t->pid, r);
		t->failing = false;
	} else if (info.op == PTRACE_SYSCALL_INFO_ENTRY && t - traced == failure->process &&
		   (long)info.entry.nr == failure->call && ++t->made == failure->when) {
		if (r == -EPIPE || r == -ECONNRESET || r == -ETIMEDOUT)
			lose_connection(t->pid, (int)info.entry.args[0]);
		set_call(t->pid, SYS_getpid);
		t->failing = failure->happened = true;
	}
}

/* Returns the signal that the process is to get. */
static int pass_stop(pid_t pid, int status)
{
	struct traced *t = find_traced(pid);
	int sig = WSTOPSIG(status);

	if (t->pid == 0) { /* new, and stopped by ptrace(2) */
		t->pid = pid;
		return 0;
	}
	if (status >> 16 == PTRACE_EVENT_EXEC)
		t->made = 0;
	if (sig == (SIGTRAP | 0x80))
		pass_call(t);
	return status >> 16 != 0 || sig == (SIGTRAP | 0x80) ? 0 : sig;
}

/* Until all have ended. Returns the wait status of the command. */
static int trace(pid_t command)
{
	int status, result = 0;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			result = pid == command ? status : result;
			continue;
		}
		if (traced[0].pid == 0)
			ptrace(PTRACE_SETOPTIONS, pid, 0,
			       PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE |
				   PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
		int sig = pass_stop(pid, status);
		bool over = failure->happened && !find_traced(pid)->failing;
		ptrace(over ? PTRACE_CONT : PTRACE_SYSCALL, pid, 0, sig);
	}
	return result;
}

static noreturn void run_traced(char **words)
{
	pid_t pid = fork();

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execvp(words[0], words);
		abort();
	}
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		close(fd);
	int status = trace(pid);
	if (WIFSIGNALED(status)) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}

/* ---- the runs ---- */

static void start_command(void *arg)
{
	char **words = arg;

	if (strcmp(words[0], "fail") == 0)
		run_traced(words + FAIL_WORDS);
	execvp(words[0], words);
	abort();
}

static const char *end_of(const struct run *r, bool must_fail)
{
	if (!r->in_time)
		return "hang";
	if (must_fail && !failure->happened)
		return "missed";
	return WIFSIGNALED(r->status) ? "signal" : "exit";
}

static void run_command(char **words)
{
	static struct run r;
	bool must_fail = strcmp(words[0], "fail") == 0;

	if (must_fail)
		*failure = (struct failure){atol(words[1]), atol(words[2]), atol(words[3]),
					    atol(words[4]), false};
	(void)run_once(&r, start_command, words);
	printf("%s %d %s %s\n", end_of(&r, must_fail),
	       WIFSIGNALED(r.status) ? WTERMSIG(r.status) : WEXITSTATUS(r.status), r.saw, r.log);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static char line[8192];
	char *words[WORDS_MAX + 1];

	if (argc != 2)
		return EX_USAGE;
	kind = argv[1][0];
	failure =
	    mmap(NULL, sizeof *failure, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (failure == MAP_FAILED)
		return EX_OSERR;
	signal(SIGPIPE, SIG_IGN);
	start_peers();
	while (fgets(line, sizeof line, stdin) != NULL) {
		unsigned n = 0;
		line[strcspn(line, "\n")] = '\0';
		for (char *p = strtok(line, " "); p != NULL && n < WORDS_MAX; p = strtok(NULL, " "))
			words[n++] = strcmp(p, "BACKEND") == 0 ? backend_address : p;
		words[n] = NULL;
		run_command(words);
	}
	return 0;
}
