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
 * BACKEND is PostgreSQL's address; BACKEND_NAME has localhost instead of the number. A command
 * after "fail PROCESS CALL WHEN RESULT" is traced: the system call with the number CALL, when it is
 * made the WHEN-th time, does nothing (but close(2) closes) and returns RESULT. If that says that
 * a connection is lost, it is lost. PROCESS 0 is the command, 0.1 the first that it forks. If there
 * was no such call, the result is "missed".
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

enum { WORDS_MAX = 100, TRACED_MAX = 32, FAIL_WORDS = 5 };

/* ---- the tracer, a process between failing_calls and the command ---- */

static struct failure {
	const char *process;
	long call, when, result;
	bool happened;
} * failure; /* shared */

static struct traced {
	pid_t pid;
	char path[32]; /* 0 is the command, 0.2 the second process that it forked; "": unknown */
	int children;
	long made;
	bool stopped; /* as a new process is by ptrace(2) */
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
	} else if (info.op == PTRACE_SYSCALL_INFO_ENTRY && strcmp(t->path, failure->process) == 0 &&
		   (long)info.entry.nr == failure->call && ++t->made == failure->when) {
		if (r == -EPIPE || r == -ECONNRESET || r == -ETIMEDOUT)
			lose_connection(t->pid, (int)info.entry.args[0]);
		if (info.entry.nr != SYS_close) /* it closes even if it fails */
			set_call(t->pid, SYS_getpid);
		t->failing = failure->happened = true;
	}
}

static void go_on(const struct traced *t, int sig)
{
	bool over = failure->happened && !t->failing;

	ptrace(over ? PTRACE_CONT : PTRACE_SYSCALL, t->pid, 0, sig);
}

static void name_child(struct traced *parent)
{
	unsigned long pid = 0;

	if (ptrace(PTRACE_GETEVENTMSG, parent->pid, 0, &pid) != 0)
		return; /* the parent has been killed */
	struct traced *child = find_traced((pid_t)pid);
	child->pid = (pid_t)pid;
	if (++parent->children > 9)
		abort();
	snprintf(child->path, sizeof child->path, "%.12s.%d", parent->path, parent->children);
	if (child->stopped)
		go_on(child, 0);
}

/* Returns the signal that the process is to get; -1: it must wait. */
static int pass_stop(pid_t pid, int status)
{
	struct traced *t = find_traced(pid);
	int sig = WSTOPSIG(status), event = status >> 16;

	if (t->path[0] == '\0') { /* stopped by ptrace(2), before its parent */
		t->pid = pid;
		t->stopped = true;
		return -1;
	}
	if (!t->stopped && t != traced) { /* stopped by ptrace(2), after its parent */
		t->stopped = true;
		return 0;
	}
	if (event == PTRACE_EVENT_EXEC)
		t->made = 0;
	if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_CLONE ||
	    event == PTRACE_EVENT_VFORK)
		name_child(t);
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
		if (traced[0].pid == 0) { /* it has stopped itself */
			traced[0] = (struct traced){.pid = pid, .path = "0"};
			ptrace(PTRACE_SETOPTIONS, pid, 0,
			       PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
				   PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
			go_on(traced, 0);
			continue;
		}
		int sig = pass_stop(pid, status);
		if (sig >= 0)
			go_on(find_traced(pid), sig);
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

/* The address of PostgreSQL for BACKEND, with a name for BACKEND_NAME. */
static char *put_backend(char *word)
{
	static char name[64];

	if (strcmp(word, "BACKEND") == 0)
		return backend_address;
	if (strcmp(word, "BACKEND_NAME") != 0)
		return word;
	snprintf(name, sizeof name, "localhost%s", strchr(backend_address, ':'));
	return name;
}

static void run_command(char **words)
{
	static struct run r;
	bool must_fail = strcmp(words[0], "fail") == 0;

	if (must_fail)
		*failure = (struct failure){words[1], atol(words[2]), atol(words[3]),
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
			words[n++] = put_backend(p);
		words[n] = NULL;
		run_command(words);
	}
	return 0;
}
