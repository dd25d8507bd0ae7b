/* SPDX-License-Identifier: ISC
 *
 * t/unit_filter.c - the seccomp filters as programs: run them here, without a kernel, on the system
 * calls of the machine that this is compiled for. Works under qemu-user, which has no seccomp.
 * sabotage: sandbox/seccomp.c s/ALLOW(ppoll),/ALLOW(pselect6),/
 * sabotage: sandbox/seccomp.c s/EQUAL(ARCHITECTURE, 1, 0)/EQUAL(ARCHITECTURE, 1, 1)/
 * sabotage: sandbox/seccomp.c s/LOAD(HIGH(n)), EQUAL(0, 1, 0)/LOAD(LOW(n)), EQUAL(0, 1, 0)/
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "sandbox/sandbox.h"
#include "tap.h"

#ifdef __x86_64__
#define MACHINE AUDIT_ARCH_X86_64
#define OTHER   AUDIT_ARCH_I386
#else
#define MACHINE AUDIT_ARCH_AARCH64
#define OTHER   AUDIT_ARCH_ARM
#endif

#define KILL      SECCOMP_RET_KILL_PROCESS
#define ALLOW     SECCOMP_RET_ALLOW
#define ERRNO(e)  (SECCOMP_RET_ERRNO | (e))
#define SYSLOG    5
#define FORK      (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define HIGH      (1ULL << 32)

/* ---- the filters that the program loads ---- */

static struct sock_filter loaded[3][600];
static unsigned short lengths[3];
static int target; /* 0: a session, 1: what it adds when it is connected, 2: the parent of -d */

int __wrap_prctl(int option, ...);

int __wrap_prctl(int option, ...)
{
	va_list args;

	va_start(args, option);
	int mode = (int)va_arg(args, long);
	const struct sock_fprog *program = va_arg(args, const struct sock_fprog *);
	va_end(args);
	if (option != PR_SET_SECCOMP || mode != SECCOMP_MODE_FILTER || program == NULL) {
		errno = EFAULT; /* as a kernel with seccomp says */
		return -1;
	}
	memcpy(loaded[target], program->filter, program->len * sizeof *program->filter);
	lengths[target] = program->len;
	return 0;
}

/* ---- their interpreter ---- */

/* The filter's answer, or KILL if it does what the kernel would not load. */
static uint32_t run(int which, const struct seccomp_data *call)
{
	uint32_t a = 0;

	for (unsigned pc = 0; pc < lengths[which]; pc++) {
		const struct sock_filter *f = &loaded[which][pc];
		bool yes = false;
		switch (f->code) {
		case BPF_RET | BPF_K:
			return f->k;
		case BPF_LD | BPF_W | BPF_ABS:
			if (f->k % 4 != 0 || f->k >= sizeof *call)
				return KILL;
			memcpy(&a, (const char *)call + f->k, sizeof a);
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == f->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = (a & f->k) != 0;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= f->k;
			break;
		default:
			return KILL;
		}
		pc += yes ? f->jt : f->jf;
	}
	return KILL;
}

/* ---- system calls and answers ---- */

static const struct row {
	const char *name;
	int nr;
	uint64_t args[6];
	uint32_t session, connected, parent;
} rows[] = {
#define ROW(name, ...)                                                                             \
	{                                                                                          \
#name, __NR_##name, __VA_ARGS__                                                    \
	}
#define ALL(name) ROW(name, {0}, ALLOW, ALLOW, ALLOW)
    ALL(read),
    ALL(write),
    ALL(writev),
    ALL(ppoll),
    ALL(recvfrom),
    ALL(close),
    ALL(shutdown),
    ALL(brk),
    ALL(munmap),
    ALL(clock_gettime),
    ALL(clock_nanosleep),
    ALL(gettimeofday),
    ALL(getrandom),
    ALL(getpid),
    ALL(rt_sigprocmask),
    ALL(rt_sigpending),
    ALL(rt_sigreturn),
    ALL(restart_syscall),
    ALL(exit_group),
    ALL(fstat),
    ROW(unlinkat, {0}, ALLOW, ALLOW, ALLOW),
    ROW(newfstatat, {0, 0, 0, AT_EMPTY_PATH}, ALLOW, ALLOW, ALLOW),
    ROW(newfstatat, {0}, ERRNO(EACCES), ERRNO(EACCES), ALLOW),
    ROW(openat, {0}, ERRNO(EACCES), ERRNO(EACCES), ALLOW),
    ROW(faccessat, {0}, ERRNO(EACCES), ERRNO(EACCES), ALLOW),
    ROW(readlinkat, {0}, ERRNO(EACCES), ERRNO(EACCES), ALLOW),
    ROW(socket, {0}, ERRNO(EACCES), ERRNO(EACCES), ALLOW),
    ROW(connect, {0}, ALLOW, ERRNO(EACCES), ALLOW),
    ROW(bind, {0}, KILL, KILL, ALLOW),
    ROW(sendto, {3}, ALLOW, ALLOW, ALLOW),
    ROW(sendto, {3, 0, 0, 0, 4096}, KILL, KILL, KILL),
    ROW(sendto, {3, 0, 0, 0, HIGH}, KILL, KILL, KILL),
    ROW(sendto, {SYSLOG, 0, 0, 0, 4096}, ALLOW, ALLOW, ALLOW),
    ROW(mmap, {0, 4096, PROT_READ | PROT_WRITE, ANONYMOUS}, ALLOW, ALLOW, ALLOW),
    ROW(mmap, {0, 4096, PROT_READ | PROT_EXEC, ANONYMOUS}, KILL, KILL, ERRNO(EPERM)),
    ROW(mmap, {0, 4096, HIGH | PROT_EXEC, ANONYMOUS}, KILL, KILL, ERRNO(EPERM)),
    ROW(mmap, {0, 4096, PROT_READ, MAP_PRIVATE}, KILL, KILL, ALLOW),
    ROW(mprotect, {0, 4096, PROT_READ}, ALLOW, ALLOW, ALLOW),
    ROW(mprotect, {0, 4096, PROT_EXEC}, KILL, KILL, ERRNO(EPERM)),
    ROW(ioctl, {0, SIOCOUTQ}, ALLOW, ALLOW, ALLOW),
    ROW(ioctl, {0, TCGETS}, ERRNO(ENOTTY), ERRNO(ENOTTY), ERRNO(EPERM)),
    ROW(ioctl, {0, TIOCSTI}, KILL, KILL, ERRNO(EPERM)),
    ROW(futex, {0, FUTEX_WAKE_PRIVATE}, ALLOW, ALLOW, ALLOW),
    ROW(fcntl, {0, F_GETFL}, ALLOW, ALLOW, ALLOW),
    ROW(fcntl, {0, F_SETOWN}, ERRNO(EPERM), ERRNO(EPERM), ALLOW),
    ROW(prctl, {PR_SET_SECCOMP, SECCOMP_MODE_FILTER}, ALLOW, ERRNO(EPERM), ALLOW),
    ROW(prctl, {PR_SET_DUMPABLE, 1}, ERRNO(EPERM), ERRNO(EPERM), ALLOW),
    ROW(clone, {FORK}, KILL, KILL, ALLOW),
    ROW(clone, {FORK | CLONE_NEWUSER}, KILL, KILL, ERRNO(EPERM)),
    ROW(clone3, {0}, KILL, KILL, ERRNO(ENOSYS)),
    ROW(accept4, {0}, KILL, KILL, ALLOW),
    ROW(wait4, {0}, KILL, KILL, ALLOW),
    ROW(pipe2, {0}, KILL, KILL, ALLOW),
    ROW(dup3, {0}, KILL, KILL, ALLOW),
    ROW(setresuid, {0}, KILL, KILL, ALLOW),
    ROW(execve, {0}, KILL, KILL, ERRNO(EPERM)),
    ROW(ptrace, {0}, KILL, KILL, ERRNO(EPERM)),
    ROW(openat2, {0}, KILL, KILL, ERRNO(EPERM)),
    ROW(sendmsg, {0}, KILL, KILL, ERRNO(EPERM)),
    ROW(io_uring_setup, {0}, KILL, KILL, ERRNO(EPERM)),
#ifdef __x86_64__
    ALL(poll),
    ALL(time),
    ROW(open, {0}, ERRNO(EACCES), ERRNO(EACCES), ALLOW),
    ROW(fork, {0}, KILL, KILL, ALLOW),
#endif
};

/* Of two filters the stricter answer counts: as signed numbers, the smaller one. */
static uint32_t stricter(uint32_t a, uint32_t b)
{
	return (int32_t)a < (int32_t)b ? a : b;
}

static void check(const struct row *r, uint32_t got, uint32_t want, const char *where)
{
	if (!ok(got == want, "%s(%#llx, %#llx, %#llx): %s", r->name, (unsigned long long)r->args[0],
		(unsigned long long)r->args[1], (unsigned long long)r->args[2], where))
		note("%#x instead of %#x", got, want);
}

static void check_rows(void)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *r = &rows[i];
		struct seccomp_data call = {.nr = r->nr, .arch = MACHINE};
		memcpy(call.args, r->args, sizeof call.args);
		check(r, run(0, &call), r->session, "a session");
		check(r, stricter(run(0, &call), run(1, &call)), r->connected, "connected");
		check(r, run(2, &call), r->parent, "the parent");
		call.arch = OTHER;
		check(r, run(0, &call), KILL, "a session, on another machine");
		check(r, run(2, &call), KILL, "the parent, on another machine");
	}
}

int main(void)
{
	struct sandbox_needs needs = {.tcp_port = 5432, .syslog = SYSLOG, .remove_in = "/run"};
	struct error e;
	int missing;

	ok(sandbox_seccomp(&needs, false, &missing, &e) && missing == 0, "the filter of a session");
	target = 1;
	ok(sandbox_connected(&e), "what it adds");
	target = 2;
	ok(sandbox_seccomp(&needs, true, &missing, &e) && missing == 0, "the filter of the parent");
	check_rows();
	return done_testing();
}
