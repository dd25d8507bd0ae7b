/* SPDX-License-Identifier: ISC
 *
 * sandbox_seccomp.c - step 5 on Linux: the list of system calls.
 *
 * Rows are read from the top until one fits: allow, refuse with an errno, else kill. Whoever adds a call to the program adds a row here
 * and the reason beside it. abort() too ends in SIGSYS: its tgkill is not listed.
 */
#ifdef __linux__

#include <asm/termbits.h> /* TCGETS2 takes the size of its struct */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "sandbox_os.h"
#include "sock.h"

#if defined(__x86_64__) && !defined(__ILP32__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && __BYTE_ORDER == __LITTLE_ENDIAN
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifndef ARCHITECTURE /* other machines number their calls otherwise: told in the log like a kernel without seccomp */

bool os_shut_calls(const struct sandbox_needs *needs, unsigned *missing, struct error *e)
{
	(void)needs;
	(void)e;
	*missing |= LAYER_CALLS;
	return true;
}

bool os_shut_parent_calls(const struct sandbox_parent_needs *needs, unsigned *missing, struct error *e)
{
	(void)needs;
	(void)e;
	*missing |= LAYER_CALLS;
	return true;
}

bool os_shut_connect(struct error *e)
{
	(void)e;
	return true;
}

#else

/* One row a line: */
/* clang-format off */

/*
 * The rows. Between two rows the accumulator holds the call's number. Only the low half of an argument is looked at where the kernel
 * takes an int or looks at low bits (of the high half an int's caller promises nothing); a pointer is looked at whole.
 */
#define KILL                 SECCOMP_RET_KILL_PROCESS
#define ERRNO(err)           (SECCOMP_RET_ERRNO | ((err) & SECCOMP_RET_DATA))
#define LOAD(offset)         BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define LOAD_NUMBER          LOAD(offsetof(struct seccomp_data, nr))
#define LOW(n)               (offsetof(struct seccomp_data, args) + 8 * (n))
#define HIGH(n)              (LOW(n) + 4)
#define ANSWER(what)         BPF_STMT(BPF_RET | BPF_K, (what))
#define EQUAL(k, yes, no)    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (yes), (no))
#define ANY_BIT(k, yes, no)  BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (k), (yes), (no))
#define AT_LEAST(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (k), (yes), (no))
#define CALL(name, length)   EQUAL(__NR_##name, 0, (length))

#define ALLOW(name)       CALL(name, 1), ANSWER(SECCOMP_RET_ALLOW)
#define REFUSE(name, err) CALL(name, 1), ANSWER(ERRNO(err))
#define FORBID(name)      CALL(name, 1), ANSWER(KILL)

#define WHEN(name, n, value, what)         CALL(name, 4), LOAD(LOW(n)), EQUAL(value, 0, 1), ANSWER(what), LOAD_NUMBER
#define ALLOW_IF(name, n, value)           WHEN(name, n, value, SECCOMP_RET_ALLOW)
#define REFUSE_IF(name, n, value, err)     WHEN(name, n, value, ERRNO(err))
#define ON_BIT(name, n, bits, what)        CALL(name, 4), LOAD(LOW(n)), ANY_BIT(bits, 0, 1), ANSWER(what), LOAD_NUMBER
#define ALLOW_IF_BIT(name, n, bits)        ON_BIT(name, n, bits, SECCOMP_RET_ALLOW)
#define REFUSE_IF_BIT(name, n, bits, err)  ON_BIT(name, n, bits, ERRNO(err))
#define KILL_IF_BIT(name, n, bits)         ON_BIT(name, n, bits, KILL)
#define KILL_UNLESS_BIT(name, n, bits)     CALL(name, 4), LOAD(LOW(n)), ANY_BIT(bits, 1, 0), ANSWER(KILL), LOAD_NUMBER
#define KILL_UNLESS_NULL(name, n)                                                                                                     \
	CALL(name, 6), LOAD(LOW(n)), EQUAL(0, 0, 2), LOAD(HIGH(n)), EQUAL(0, 1, 0), ANSWER(KILL), LOAD_NUMBER
#define ALLOW_IF_BOTH(name, n, value, n2, value2)                                                                                     \
	CALL(name, 6), LOAD(LOW(n)), EQUAL(value, 0, 3), LOAD(LOW(n2)), EQUAL(value2, 0, 1), ANSWER(SECCOMP_RET_ALLOW), LOAD_NUMBER

/* First of all: numbers mean calls only on the machine that we were built for; x32 has its own behind bit 30. */
static const struct sock_filter check_machine[] = {
    LOAD(offsetof(struct seccomp_data, arch)),
    EQUAL(ARCHITECTURE, 1, 0),
    ANSWER(KILL),
    LOAD_NUMBER,
    AT_LEAST(0x40000000, 0, 1),
    ANSWER(KILL),
};

/*
 * The pump's own calls come first. When the filter is loaded the kernel works out which numbers are allowed whatever their arguments and never
 * runs it for those; looking at an argument ends that search. Ended here it saves 0.07 ms a session.
 */
static const struct sock_filter pump[] = {
    ALLOW(read),
    ALLOW(write),
    ALLOW(recvfrom),
    ALLOW(ppoll),
#ifdef __x86_64__ /* here and below: older names that newer machines have not */
    ALLOW(poll),
#endif
    LOAD(LOW(0)),
    LOAD_NUMBER,
    KILL_UNLESS_NULL(sendto, 4), /* with an address and MSG_FASTOPEN it is a connect() that Landlock may not see */
    ALLOW(sendto),
};

/* What every session does besides. */
static const struct sock_filter session[] = {
    ALLOW(writev),
    ALLOW(close),
    ALLOW(shutdown),
    ALLOW_IF(ioctl, 1, SIOCOUTQ), /* lingering: has the peer acknowledged all? */
    ALLOW_IF_BOTH(getsockopt, 1, SOL_SOCKET, 2, SO_ERROR), /* how the connect went */
    ALLOW_IF_BOTH(setsockopt, 1, IPPROTO_TCP, 2, TCP_NODELAY),
    ALLOW_IF_BOTH(setsockopt, 1, IPPROTO_TCP, 2, TCP_RTO_MAX_MS), /* before the end: what the client has not taken yet */
    ALLOW(getsockname), /* backend_port of the log line */
    ALLOW(getpeername),
    ALLOW_IF(fcntl, 1, F_GETFL),
    ALLOW(fstat),
    ALLOW_IF_BIT(newfstatat, 3, AT_EMPTY_PATH), /* fstat() of glibc 2.33 to 2.38 */
    /* memory, never executable, never a file's */
    ALLOW(brk),
    KILL_IF_BIT(mmap, 2, PROT_EXEC),
    KILL_UNLESS_BIT(mmap, 3, MAP_ANONYMOUS),
    ALLOW(mmap),
    KILL_IF_BIT(mprotect, 2, PROT_EXEC),
    ALLOW(mprotect),
    ALLOW(munmap),
    ALLOW(mremap),
    ALLOW(madvise),
    /* time, where the vDSO cannot tell it; chance; who we are; locks, which one thread only ever opens */
    ALLOW(clock_gettime),
    ALLOW(gettimeofday),
    ALLOW(clock_nanosleep),
    ALLOW(getrandom),
    ALLOW(getpid),
    ALLOW_IF(futex, 1, FUTEX_WAKE_PRIVATE),
    ALLOW_IF(futex, 1, FUTEX_WAIT_PRIVATE),
    /* signals' masks and return, going on after SIGSTOP, the end */
    ALLOW(rt_sigprocmask),
    ALLOW(rt_sigpending),
    ALLOW(rt_sigreturn),
    ALLOW(restart_syscall),
    ALLOW(exit),
    ALLOW(exit_group),
#ifdef __x86_64__
    ALLOW(time),
#endif
};

static const struct sock_filter may_connect[] = {ALLOW(connect)};
static const struct sock_filter may_bind[] = {ALLOW(bind)};
static const struct sock_filter may_yield[] = {ALLOW(sched_yield)};
static const struct sock_filter may_tighten[] = {ALLOW_IF_BOTH(prctl, 0, PR_SET_SECCOMP, 1, SECCOMP_MODE_FILTER)};
static const struct sock_filter may_remove[] = {
    ALLOW(unlinkat), /* where: Landlock knows */
#ifdef __x86_64__
    ALLOW(unlink),
#endif
};

/* What libraries try harmlessly, and do without: syslog opens its socket again, localtime() its file, qsort() asks for the memory's size. */
static const struct sock_filter refused[] = {
    REFUSE(openat, EACCES),
    REFUSE(socket, EACCES),
    REFUSE(connect, EACCES),
    REFUSE(newfstatat, EACCES),
    REFUSE(faccessat, EACCES),
    REFUSE(readlinkat, EACCES),
    REFUSE(lseek, ESPIPE),
    REFUSE_IF(ioctl, 1, TCGETS, ENOTTY),  /* isatty(), before stdio's first write */
    REFUSE_IF(ioctl, 1, TCGETS2, ENOTTY), /* the same from glibc 2.42 on */
    REFUSE(fcntl, EPERM),
    REFUSE(setsockopt, EPERM), /* OpenSSL asks for kernel TLS where openssl.cnf says so */
    REFUSE(getsockopt, EPERM),
    REFUSE(prctl, EPERM),
    REFUSE(prlimit64, EPERM),
    REFUSE(sysinfo, EPERM),
    REFUSE(uname, EPERM),
    REFUSE(sched_getaffinity, EPERM),
#ifdef __x86_64__
    REFUSE(open, EACCES),
    REFUSE(stat, EACCES),
    REFUSE(lstat, EACCES),
    REFUSE(access, EACCES),
    REFUSE(readlink, EACCES),
#endif
};

static const struct sock_filter else_kill[] = {ANSWER(KILL)};

/* The second filter, on top of the first: the stricter answer of the two counts. */
static const struct sock_filter connected[] = {
    LOAD_NUMBER,
    REFUSE(connect, EACCES), /* not kill: other libcs' syslog tries it again */
    FORBID(bind),
    REFUSE(prctl, EPERM),
    ANSWER(SECCOMP_RET_ALLOW),
};

/* What the parent of -d does, and its children until their own step 5. Above `session`, whose narrower rows come too late then. */
static const struct sock_filter parent[] = {
    ALLOW(accept),
    ALLOW(accept4),
    REFUSE_IF_BIT(clone, 0, ~(CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | 0xffU), EPERM), /* fork(), nothing else */
    ALLOW(clone),
    REFUSE_IF_BIT(mmap, 2, PROT_EXEC, EPERM), /* a library that wants to load another is told no; in a session it dies */
    REFUSE_IF_BIT(mprotect, 2, PROT_EXEC, EPERM),
    ALLOW(mmap),
    ALLOW(set_robust_list), /* fork()'s child */
    ALLOW(wait4),
    ALLOW(kill), /* whom: Landlock knows, from ABI 6 on */
    ALLOW(rt_sigaction),
    ALLOW(rt_sigsuspend),
    ALLOW(getppid),
    ALLOW(setsid),
    /* sockets of the backends */
    ALLOW(socket),
    ALLOW(connect),
    ALLOW(bind),
    ALLOW(setsockopt),
    ALLOW(getsockopt),
    ALLOW(dup),
    ALLOW(dup3),
    ALLOW(close_range),
    ALLOW(fcntl),
    ALLOW(pipe2),
    /* files that are read again, pid files: where, Landlock knows */
    ALLOW(openat),
    ALLOW(newfstatat),
    ALLOW(statx),
    ALLOW(faccessat),
    ALLOW(readlinkat),
    ALLOW(getcwd),
    ALLOW(lseek),
    ALLOW(getdents64),
    ALLOW(flock),
    ALLOW(ftruncate),
    ALLOW(pwrite64),
    ALLOW(unlinkat),
    ALLOW(umask),
    ALLOW(mlock),
    ALLOW(munlock),
    /* a child's step 5 */
    ALLOW(setgroups),
    ALLOW(getgroups),
    ALLOW(setresgid),
    ALLOW(setresuid),
    ALLOW(setuid),
    ALLOW(getresgid),
    ALLOW(getresuid),
    ALLOW(getuid),
    ALLOW(geteuid),
    ALLOW(getgid),
    ALLOW(getegid),
    ALLOW(prlimit64),
    ALLOW(capset),
    ALLOW(prctl),
    ALLOW(landlock_create_ruleset),
    ALLOW(landlock_add_rule),
    ALLOW(landlock_restrict_self),
#ifdef __x86_64__
    ALLOW(fork),
    ALLOW(dup2),
    ALLOW(open),
    ALLOW(stat),
    ALLOW(lstat),
    ALLOW(access),
    ALLOW(readlink),
    ALLOW(unlink),
    ALLOW(getrlimit),
    ALLOW(setrlimit),
#endif
    REFUSE(clone3, ENOSYS), /* its flags lie in memory, out of a filter's sight; glibc goes on to clone */
};

static const struct sock_filter else_refuse[] = {ANSWER(ERRNO(EPERM))};

/* clang-format on */

/* Lists put one behind another; jumps never leave their row. */
struct program {
	struct sock_filter rows[512];
	unsigned short length;
};

static void append(struct program *p, const struct sock_filter *rows, size_t n)
{
	if (p->length + n > sizeof p->rows / sizeof *p->rows)
		bug("system-call filter longer than %zu", sizeof p->rows / sizeof *p->rows);
	memcpy(p->rows + p->length, rows, n * sizeof *rows);
	p->length = (unsigned short)(p->length + n);
}

#define APPEND(p, list) append((p), (list), sizeof(list) / sizeof *(list))

static bool load(struct program *p, struct error *e)
{
	struct sock_fprog prog = {.len = p->length, .filter = p->rows};

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) != 0)
		return fail(e, EX_OSERR, "could not load the system-call filter: %s", strerror(errno));
	return true;
}

/* seccomp(2)'s way to ask: a filter at address 0 is EFAULT where there are filters, EINVAL where there are none. */
static bool lacks_seccomp(unsigned *missing)
{
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) == 0 || errno == EFAULT)
		return false;
	*missing |= LAYER_CALLS;
	return true;
}

bool os_shut_calls(const struct sandbox_needs *needs, unsigned *missing, struct error *e)
{
	struct program p = {.length = 0};

	if (lacks_seccomp(missing))
		return true;
	APPEND(&p, check_machine);
	APPEND(&p, pump);
	APPEND(&p, session);
	if (needs->tcp_port_count > 0 || needs->unix_connect)
		APPEND(&p, may_connect);
	if (needs->bind)
		APPEND(&p, may_bind);
	if (needs->remove_in != NULL)
		APPEND(&p, may_remove);
	if (needs->yield)
		APPEND(&p, may_yield);
	APPEND(&p, may_tighten);
	APPEND(&p, refused);
	APPEND(&p, else_kill);
	return load(&p, e);
}

bool os_shut_parent_calls(const struct sandbox_parent_needs *needs, unsigned *missing, struct error *e)
{
	struct program p = {.length = 0};

	(void)needs;
	if (lacks_seccomp(missing))
		return true;
	APPEND(&p, check_machine);
	APPEND(&p, pump);
	APPEND(&p, parent);
	APPEND(&p, session);
	APPEND(&p, else_refuse);
	return load(&p, e);
}

bool os_shut_connect(struct error *e)
{
	struct program p = {.length = 0};

	APPEND(&p, connected);
	return load(&p, e);
}

#endif /* ARCHITECTURE */
#endif /* __linux__ */
