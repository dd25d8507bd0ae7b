/* SPDX-License-Identifier: ISC
 *
 * sandbox/seccomp.c - step 5: the list of system calls.
 *
 * The first row that matches decides: allow, refuse with an errno, or else kill. A new system call
 * in the program needs a row here, with its reason beside it. abort() ends in SIGSYS too: tgkill is
 * not listed.
 */
#include "sandbox/sandbox.h"

#include <asm/termbits.h> /* for TCGETS2 */
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

#if defined(__x86_64__) && !defined(__ILP32__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define OLD(...)     __VA_ARGS__, /* rows of old calls, which aarch64 does not have */
#elif defined(__aarch64__) && __BYTE_ORDER == __LITTLE_ENDIAN
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define OLD(...)
#else
#error "the numbers of system calls are known for x86-64 and aarch64 only"
#endif

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif

/* clang-format off */

/*
 * Between two rows the accumulator holds the number of the call. Where the kernel takes an int or
 * tests low bits, a row looks at the low half of the argument only, since the high half is
 * undefined; of a pointer it looks at both halves.
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

#define WHEN(name, n, test, what) \
	CALL(name, 4), LOAD(LOW(n)), test, ANSWER(what), LOAD_NUMBER
#define ALLOW_IF(name, n, value)          WHEN(name, n, EQUAL(value, 0, 1), SECCOMP_RET_ALLOW)
#define REFUSE_IF(name, n, value, err)    WHEN(name, n, EQUAL(value, 0, 1), ERRNO(err))
#define ALLOW_IF_BIT(name, n, bits)       WHEN(name, n, ANY_BIT(bits, 0, 1), SECCOMP_RET_ALLOW)
#define REFUSE_IF_BIT(name, n, bits, err) WHEN(name, n, ANY_BIT(bits, 0, 1), ERRNO(err))
#define KILL_IF_BIT(name, n, bits)        WHEN(name, n, ANY_BIT(bits, 0, 1), KILL)
#define KILL_UNLESS_BIT(name, n, bits)    WHEN(name, n, ANY_BIT(bits, 1, 0), KILL)
#define KILL_UNLESS_NULL(name, n) \
	CALL(name, 6), LOAD(LOW(n)), EQUAL(0, 0, 2), LOAD(HIGH(n)), EQUAL(0, 1, 0), \
	ANSWER(KILL), LOAD_NUMBER
#define ALLOW_IF_BOTH(name, n, value, n2, value2) \
	CALL(name, 6), LOAD(LOW(n)), EQUAL(value, 0, 3), LOAD(LOW(n2)), EQUAL(value2, 0, 1), \
	ANSWER(SECCOMP_RET_ALLOW), LOAD_NUMBER

/* Calls are numbered per machine, and x32 sets bit 30. */
static const struct sock_filter check_machine[] = {
    LOAD(offsetof(struct seccomp_data, arch)),
    EQUAL(ARCHITECTURE, 1, 0),
    ANSWER(KILL),
    LOAD_NUMBER,
    AT_LEAST(0x40000000, 0, 1),
    ANSWER(KILL),
};

/*
 * When a filter is loaded, the kernel finds out which calls it allows whatever their arguments, and
 * never runs it for those. Looking at an argument ends this analysis: to end it after these rows,
 * which step 9 uses most, saves 0.07 ms per session.
 */
static const struct sock_filter pump[] = {
    ALLOW(read),
    ALLOW(write),
    ALLOW(recvfrom),
    ALLOW(ppoll),
    OLD(ALLOW(poll))
    LOAD(LOW(0)),
    LOAD_NUMBER,
};

/* With an address and MSG_FASTOPEN, sendto() would connect, perhaps past Landlock. */
static const struct sock_filter send_without_address[] = {
    KILL_UNLESS_NULL(sendto, 4),
    ALLOW(sendto),
};

/* What else a session does. */
static const struct sock_filter session[] = {
    ALLOW(writev),
    ALLOW(close),
    ALLOW(shutdown),
    ALLOW_IF(ioctl, 1, SIOCOUTQ), /* stream_linger */
    ALLOW_IF_BOTH(getsockopt, 1, SOL_SOCKET, 2, SO_ERROR), /* the result of connect() */
    ALLOW_IF_BOTH(setsockopt, 1, IPPROTO_TCP, 2, TCP_NODELAY),
    ALLOW_IF_BOTH(setsockopt, 1, IPPROTO_TCP, 2, TCP_RTO_MAX_MS), /* sock_orphan */
    ALLOW(getsockname), /* backend_port= in the log */
    ALLOW(getpeername),
    ALLOW_IF(fcntl, 1, F_GETFL),
    ALLOW(fstat),
    ALLOW_IF_BIT(newfstatat, 3, AT_EMPTY_PATH), /* fstat() of glibc 2.33 to 2.38 */
    /* memory: never executable, never of a file */
    ALLOW(brk),
    KILL_IF_BIT(mmap, 2, PROT_EXEC),
    KILL_UNLESS_BIT(mmap, 3, MAP_ANONYMOUS),
    ALLOW(mmap),
    KILL_IF_BIT(mprotect, 2, PROT_EXEC),
    ALLOW(mprotect),
    ALLOW(munmap),
    ALLOW(mremap),
    ALLOW(madvise),
    /* time without the vDSO, random numbers, our own id, uncontended locks */
    ALLOW(clock_gettime),
    ALLOW(gettimeofday),
    ALLOW(clock_nanosleep),
    ALLOW(getrandom),
    ALLOW(getpid),
    ALLOW_IF(futex, 1, FUTEX_WAKE_PRIVATE),
    ALLOW_IF(futex, 1, FUTEX_WAIT_PRIVATE),
    /* signals, continuing after SIGSTOP, exit */
    ALLOW(rt_sigprocmask),
    ALLOW(rt_sigpending),
    ALLOW(rt_sigreturn),
    ALLOW(restart_syscall),
    ALLOW(exit),
    ALLOW(exit_group),
    OLD(ALLOW(time))
};

static const struct sock_filter may_connect[] = {ALLOW(connect)};
static const struct sock_filter may_bind[] = {ALLOW(bind)};
static const struct sock_filter may_yield[] = {ALLOW(sched_yield)};
static const struct sock_filter may_tighten[] = {
    ALLOW_IF_BOTH(prctl, 0, PR_SET_SECCOMP, 1, SECCOMP_MODE_FILTER),
};
static const struct sock_filter may_remove[] = {
    ALLOW(unlinkat), /* Landlock limits where */
    OLD(ALLOW(unlink))
};

/*
 * What libraries try and can do without: syslog() reopens its socket, localtime() its file, qsort()
 * asks for the size of memory.
 */
static const struct sock_filter refused[] = {
    REFUSE(openat, EACCES),
    REFUSE(socket, EACCES),
    REFUSE(connect, EACCES),
    REFUSE(newfstatat, EACCES),
    REFUSE(faccessat, EACCES),
    REFUSE(readlinkat, EACCES),
    REFUSE(lseek, ESPIPE),
    REFUSE_IF(ioctl, 1, TCGETS, ENOTTY),  /* isatty(), before the first write of stdio */
    REFUSE_IF(ioctl, 1, TCGETS2, ENOTTY), /* the same from glibc 2.42 on */
    REFUSE(fcntl, EPERM),
    REFUSE(setsockopt, EPERM), /* OpenSSL tries kernel TLS if openssl.cnf says so */
    REFUSE(getsockopt, EPERM),
    REFUSE(prctl, EPERM),
    REFUSE(prlimit64, EPERM),
    REFUSE(sysinfo, EPERM),
    REFUSE(uname, EPERM),
    REFUSE(sched_getaffinity, EPERM),
    OLD(REFUSE(open, EACCES),
        REFUSE(stat, EACCES),
        REFUSE(lstat, EACCES),
        REFUSE(access, EACCES),
        REFUSE(readlink, EACCES))
};

static const struct sock_filter else_kill[] = {ANSWER(KILL)};

/* A second filter, added to the first: the stricter of the two answers counts. */
static const struct sock_filter connected[] = {
    LOAD_NUMBER,
    REFUSE(connect, EACCES), /* not KILL: syslog() of other libcs tries it again */
    CALL(bind, 1), ANSWER(KILL),
    REFUSE(prctl, EPERM),
    ANSWER(SECCOMP_RET_ALLOW),
};

/*
 * What the parent of -d does, and its children until their own step 5. These rows precede
 * session, so that their wider permissions count.
 */
static const struct sock_filter parent[] = {
    ALLOW(accept),
    ALLOW(accept4),
    /* fork() and nothing else */
    REFUSE_IF_BIT(clone, 0, ~(CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | 0xffU), EPERM),
    ALLOW(clone),
    /* loading a library fails; in a session it kills */
    REFUSE_IF_BIT(mmap, 2, PROT_EXEC, EPERM),
    REFUSE_IF_BIT(mprotect, 2, PROT_EXEC, EPERM),
    ALLOW(mmap),
    ALLOW(set_robust_list), /* the child of fork() */
    ALLOW(wait4),
    ALLOW(kill), /* Landlock limits whom, from ABI 6 on */
    ALLOW(rt_sigaction),
    ALLOW(rt_sigsuspend),
    ALLOW(getppid),
    ALLOW(setsid),
    /* sockets for the backend */
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
    /* files that are read again, pid files: Landlock limits where */
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
    OLD(ALLOW(fork),
        ALLOW(dup2),
        ALLOW(open),
        ALLOW(stat),
        ALLOW(lstat),
        ALLOW(access),
        ALLOW(readlink),
        ALLOW(unlink),
        ALLOW(getrlimit),
        ALLOW(setrlimit))
    REFUSE(clone3, ENOSYS), /* a filter cannot see its flags; glibc falls back to clone */
};

static const struct sock_filter else_refuse[] = {ANSWER(ERRNO(EPERM))};

/* clang-format on */

/* Rows put together; jumps never leave their row. */
struct filter {
	struct sock_filter rows[512];
	unsigned short length;
};

static void append_rows(struct filter *f, const struct sock_filter *rows, size_t n)
{
	if (f->length + n > sizeof f->rows / sizeof *f->rows)
		bug("system-call filter longer than %zu", sizeof f->rows / sizeof *f->rows);
	memcpy(f->rows + f->length, rows, n * sizeof *rows);
	f->length = (unsigned short)(f->length + n);
}

#define APPEND(f, list) append_rows((f), (list), sizeof(list) / sizeof *(list))

static bool load_filter(struct filter *f, struct error *e)
{
	struct sock_fprog prog = {.len = f->length, .filter = f->rows};

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) != 0)
		return fail(e, EX_OSERR, "could not load the system-call filter: %s",
			    strerror(errno));
	return true;
}

static void append_session(struct filter *f, const struct sandbox_needs *needs)
{
	APPEND(f, session);
	if (needs->tcp_port != 0 || needs->unix_connect)
		APPEND(f, may_connect);
	if (needs->bind)
		APPEND(f, may_bind);
	if (needs->remove_in != NULL)
		APPEND(f, may_remove);
	if (needs->yield)
		APPEND(f, may_yield);
	APPEND(f, may_tighten);
	APPEND(f, refused);
	APPEND(f, else_kill);
}

/* What sessions and the parent of -d have in common, the most frequent calls first. */
static void append_first(struct filter *f, const struct sandbox_needs *needs)
{
	const struct sock_filter to_syslog[] = {ALLOW_IF(sendto, 0, (uint32_t)needs->syslog)};

	APPEND(f, check_machine);
	APPEND(f, pump);
	if (needs->syslog != 0)
		APPEND(f, to_syslog);
	APPEND(f, send_without_address);
}

static bool filter_loaded; /* else sandbox_connected has nothing to add to */

bool sandbox_seccomp(const struct sandbox_needs *needs, bool is_parent, int *missing,
		     struct error *e)
{
	struct filter f = {.length = 0};

	/* seccomp(2): a filter at address 0 is EFAULT where there are filters, else EINVAL. */
	bool known = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) == 0 || errno == EFAULT;
	*missing = known ? 0 : errno;
	filter_loaded = known;
	if (!known)
		return true;
	append_first(&f, needs);
	if (is_parent) {
		if (needs->yield)
			APPEND(&f, may_yield);
		APPEND(&f, parent);
		APPEND(&f, session);
		APPEND(&f, else_refuse);
	} else {
		append_session(&f, needs);
	}
	return load_filter(&f, e);
}

bool sandbox_connected(struct error *e)
{
	struct filter f = {.length = 0};

	APPEND(&f, connected);
	return !filter_loaded || load_filter(&f, e);
}
