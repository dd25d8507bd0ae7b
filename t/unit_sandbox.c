/* SPDX-License-Identifier: ISC
 *
 * t/unit_sandbox.c - step 5: children enter the sandbox and try what an attacker would, and what a
 * session must be able to do.
 *
 * Each row names the result after sandbox_enter and after sandbox_connected. "SIGSYS": the filter
 * killed the process; an errno: the call was refused; "ok": it succeeded.
 * sabotage: sandbox/seccomp.c s/KILL_IF_BIT(mmap, 2, PROT_EXEC)/KILL_IF_BIT(mmap, 2, 0x40)/
 */
#include "sandbox_harness.h"

/* ---- what an attacker tries ---- */

static char *const no_args[] = {NULL};
static char buffer[4096];
static struct iovec vec = {buffer, 1};
static struct msghdr msg = {.msg_iov = &vec, .msg_iovlen = 1};
static struct rlimit more = {1000, 1000};
static struct stat st;

TRY(open, open("/etc/passwd", O_RDONLY))
TRY(open_mem, open("/proc/self/mem", O_RDWR))
TRY(create, open(inside, O_CREAT | O_WRONLY, 0600))
TRY(openat2, RAW(openat2, AT_FDCWD, "/etc/passwd", buffer, 24L))
TRY(stat, stat("/etc/passwd", &st))
TRY(execve, execve("/bin/true", no_args, no_args))
TRY(execveat, RAW(execveat, AT_FDCWD, "/bin/true", no_args, no_args, 0L))
TRY(fork, fork())
TRY(clone3, RAW(clone3, buffer, 88L))
TRY(socket, socket(AF_INET, SOCK_STREAM, 0))
TRY(connect_right, connect(tcp, PEER(right)))
TRY(connect_wrong, connect(tcp, PEER(wrong)))
TRY(fastopen, sendto(tcp, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, PEER(right)))
TRY(to_syslog, sendto(to_syslog, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT, PEER(syslogd)))
TRY(to_syslog_by_another, sendto(dgram, "x", 1, MSG_NOSIGNAL, PEER(syslogd)))
TRY(bind, bind(tcp, PEER(((struct sockaddr_in){.sin_family = AF_INET}))))
TRY(listen, listen(tcp, 1))
TRY(accept, accept(listener, NULL, NULL))
TRY(sendmsg, sendmsg(pair[0], &msg, 0))
TRY(recvmsg, recvmsg(pair[0], &msg, MSG_DONTWAIT))
TRY(ptrace, ptrace(PTRACE_ATTACH, getppid(), 0, 0))
TRY(vm_readv, process_vm_readv(1, &vec, 1, &vec, 1, 0))
TRY(pidfd_open, RAW(pidfd_open, 1L, 0L))
TRY(kill, kill(1, SIGTERM))
TRY(abort, (abort(), 0))
TRY(mmap_exec,
    (long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? -1
											    : 0)
TRY(mmap_exec_high,
    RAW(mmap, 0L, 4096L, (1L << 40) | PROT_EXEC, (long)(MAP_PRIVATE | MAP_ANONYMOUS), -1L, 0L))
TRY(mmap_file, (long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, null_fd, 0) == -1 ? -1 : 0)
TRY(mprotect_exec,
    mprotect((void *)((uintptr_t)buffer & ~(uintptr_t)4095), 4096, PROT_READ | PROT_EXEC))
TRY(setuid, setuid(0))
TRY(setresgid, setresgid(0, 0, 0))
TRY(setgroups, RAW(setgroups, 0L, NULL))
TRY(capset, RAW(capset, buffer, buffer))
TRY(unlink, unlink(elsewhere))
TRY(unlink_up, unlinkat(AT_FDCWD, elsewhere, 0))
TRY(rmdir, rmdir(pids))
TRY(rename, rename(elsewhere, inside))
TRY(mkdir, mkdir(inside, 0700))
TRY(chmod, chmod(elsewhere, 0777))
TRY(dup, dup(0))
TRY(memfd, RAW(memfd_create, "x", 0L))
TRY(io_uring, RAW(io_uring_setup, 1L, buffer))
TRY(bpf, RAW(bpf, 0L, buffer, 0L))
TRY(seccomp, RAW(seccomp, 0L, 0L, NULL))
TRY(unshare, unshare(CLONE_NEWUSER))
TRY(chroot, chroot("/"))
TRY(dumpable, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
TRY(setrlimit, setrlimit(RLIMIT_NOFILE, &more))
TRY(setown, fcntl(pair[0], F_SETOWN, 1))
TRY(tiocsti, ioctl(0, TIOCSTI, "x"))
TRY(ioctl_high,
    RAW(ioctl, (long)pair[0], (1L << 32) | SIOCOUTQ, buffer)) /* the same call for the kernel */
TRY(keepalive, setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, "\1\0\0", 4))
TRY(tighten, prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, NULL, 0, 0))

#ifdef __x86_64__
TRY(x32, RAW(getpid + 0x40000000, 0L))

static long try_int80(void) /* 20 is getpid of i386 */
{
	long result = 20;

	__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
	return result;
}

/* Does the kernel lack 32-bit calls? Then try_int80 ends with SIGSEGV before the filter runs. */
static bool kernel_lacks(long (*try)(void))
{
	int status;

	if (try != try_int80)
		return false;
	pid_t pid = fork();
	if (pid == 0)
		_exit(try_int80() < 0);
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status);
}
#else
static bool kernel_lacks(long (*try)(void))
{
	(void)try;
	return false;
}
#endif

/* ---- what a session must be able to do ---- */

static long try_talk(void)
{
	struct pollfd p[SANDBOX_POLL_SLOTS] = {{.fd = pair[1], .events = POLLIN}};
	sigset_t none;
	int left;

	for (int i = 1; i < SANDBOX_POLL_SLOTS; i++)
		p[i].fd = -1;
	sigemptyset(&none);
	if (send(pair[0], "hello", 5, MSG_NOSIGNAL | MSG_DONTWAIT) != 5 ||
	    write(pair[0], "!", 1) != 1)
		return -1;
	if (ppoll(p, SANDBOX_POLL_SLOTS, NULL, &none) != 1 || poll(p, SANDBOX_POLL_SLOTS, 0) != 1)
		return -1;
	if (ioctl(pair[0], SIOCOUTQ, &left) != 0 || recv(pair[1], buffer, 5, MSG_DONTWAIT) != 5 ||
	    read(pair[1], buffer, 1) != 1)
		return -1;
	if (fstat(pair[0], &st) != 0 || !S_ISSOCK(st.st_mode) || fcntl(pair[0], F_GETFL) < 0)
		return -1;
	return shutdown(pair[0], SHUT_WR) == 0 ? close(pair[0]) : -1;
}

static long try_memory(void)
{
	for (size_t size = 1; size < (size_t)128 << 20; size *= 2) {
		char *p = malloc(size), *q = p == NULL ? NULL : realloc(p, size + size / 2);
		if (q == NULL)
			return -1;
		memset(q, 1, size);
		free(q);
	}
	return 0;
}

static long try_too_much(void)
{
	void *volatile p = malloc((size_t)300 << 20);

	return p == NULL ? -1 : 0;
}

static long try_time(void)
{
	struct timespec ts;
	struct tm tm;
	time_t now = time(NULL);

	if (clock_gettime(CLOCK_REALTIME, &ts) != 0 || RAW(clock_gettime, 0L, &ts) != 0 ||
	    localtime_r(&now, &tm) == NULL)
		return -1;
	return strftime(buffer, sizeof buffer, "%c %Z", localtime(&now)) > 0 ? 0 : -1;
}

static long try_syslog(void)
{
	openlog("pgssl-test", LOG_PID,
		LOG_DAEMON); /* not LOG_NDELAY: syslog() opens the socket, which is refused */
	for (int i = 0; i < 3; i++)
		syslog(LOG_DEBUG, "to no daemon %d", i);
	return send(dgram, "x", 1, MSG_NOSIGNAL) == -1 && errno == ECONNREFUSED ? 0 : -1;
}

static long try_libraries(void)
{
	if (getrandom(buffer, 32, 0) != 32 || getpid() <= 0)
		return -1;
	arc4random_buf(buffer, 64);
	setproctitle("tested");
	isatty(0);
	sysconf(_SC_NPROCESSORS_ONLN);
	sysconf(_SC_PHYS_PAGES);
	sysconf(_SC_OPEN_MAX);
	return getenv("PATH") == NULL && environ == NULL ? 0 : -1;
}

static long try_sigterm_flag(void) /* what stream_poll does */
{
	sigset_t set;

	sigemptyset(&set);
	return sigprocmask(SIG_SETMASK, &set, NULL) == 0 ? sigpending(&set) : -1;
}

static long try_connect_and_ask(void)
{
	int error = 1;
	socklen_t len = sizeof error;
	struct sockaddr_in me;
	socklen_t melen = sizeof me;

	if (connect(tcp, PEER(right)) != 0 ||
	    getsockopt(tcp, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0)
		return -1;
	if (setsockopt(tcp, IPPROTO_TCP, 1 /* TCP_NODELAY */, &(int){1}, sizeof(int)) != 0)
		return -1;
	return getsockname(tcp, (struct sockaddr *)&me, &melen);
}

static const struct {
	const char *name;
	long (*try)(void);
	const char *entered, *connected;
} rows[] = {
#define ROW(name, entered, connected)                                                              \
	{                                                                                          \
#name, try_##name, entered, connected                                              \
	}
    ROW(open, "EACCES", "EACCES"),
    ROW(open_mem, "EACCES", "EACCES"),
    ROW(create, "EACCES", "EACCES"),
    ROW(openat2, "SIGSYS", "SIGSYS"),
    ROW(stat, "EACCES", "EACCES"),
    ROW(execve, "SIGSYS", "SIGSYS"),
    ROW(execveat, "SIGSYS", "SIGSYS"),
    ROW(fork, "SIGSYS", "SIGSYS"),
    ROW(clone3, "SIGSYS", "SIGSYS"),
    ROW(socket, "EACCES", "EACCES"),
    ROW(connect_right, "ok", "EACCES"),
    ROW(connect_wrong, "EACCES", "EACCES"),
    ROW(fastopen, "SIGSYS", "SIGSYS"),
    ROW(to_syslog, "ok", "ok"),
    ROW(to_syslog_by_another, "SIGSYS", "SIGSYS"),
    ROW(bind, "SIGSYS", "SIGSYS"),
    ROW(listen, "SIGSYS", "SIGSYS"),
    ROW(accept, "SIGSYS", "SIGSYS"),
    ROW(sendmsg, "SIGSYS", "SIGSYS"),
    ROW(recvmsg, "SIGSYS", "SIGSYS"),
    ROW(ptrace, "SIGSYS", "SIGSYS"),
    ROW(vm_readv, "SIGSYS", "SIGSYS"),
    ROW(pidfd_open, "SIGSYS", "SIGSYS"),
    ROW(kill, "SIGSYS", "SIGSYS"),
    ROW(abort, "SIGSYS", "SIGSYS"),
    ROW(mmap_exec, "SIGSYS", "SIGSYS"),
    ROW(mmap_exec_high, "SIGSYS", "SIGSYS"),
    ROW(mmap_file, "SIGSYS", "SIGSYS"),
    ROW(mprotect_exec, "SIGSYS", "SIGSYS"),
    ROW(setuid, "SIGSYS", "SIGSYS"),
    ROW(setresgid, "SIGSYS", "SIGSYS"),
    ROW(setgroups, "SIGSYS", "SIGSYS"),
    ROW(capset, "SIGSYS", "SIGSYS"),
    ROW(unlink, "SIGSYS", "SIGSYS"),
    ROW(unlink_up, "SIGSYS", "SIGSYS"),
    ROW(rmdir, "SIGSYS", "SIGSYS"),
    ROW(rename, "SIGSYS", "SIGSYS"),
    ROW(mkdir, "SIGSYS", "SIGSYS"),
    ROW(chmod, "SIGSYS", "SIGSYS"),
    ROW(dup, "SIGSYS", "SIGSYS"),
    ROW(memfd, "SIGSYS", "SIGSYS"),
    ROW(io_uring, "SIGSYS", "SIGSYS"),
    ROW(bpf, "SIGSYS", "SIGSYS"),
    ROW(seccomp, "SIGSYS", "SIGSYS"),
    ROW(unshare, "SIGSYS", "SIGSYS"),
    ROW(chroot, "SIGSYS", "SIGSYS"),
    ROW(dumpable, "EPERM", "EPERM"),
    ROW(setrlimit, "EPERM", "EPERM"),
    ROW(setown, "EPERM", "EPERM"),
    ROW(tiocsti, "SIGSYS", "SIGSYS"),
    ROW(ioctl_high, "ok", "ok"),
    ROW(keepalive, "EPERM", "EPERM"),
    ROW(tighten, "EPERM", "EPERM"),
#ifdef __x86_64__
    ROW(x32, "SIGSYS", "SIGSYS"),
    ROW(int80, "SIGSYS", "SIGSYS"),
#endif
    ROW(talk, "ok", "ok"),
    ROW(memory, "ok", "ok"),
    ROW(too_much, "ENOMEM", "ENOMEM"),
    ROW(time, "ok", "ok"),
    ROW(syslog, "ok", "ok"),
    ROW(libraries, "ok", "ok"),
    ROW(sigterm_flag, "ok", "ok"),
    ROW(connect_and_ask, "ok", "EACCES"),
};

static void test_rows(void)
{
	struct sandbox_needs n = needs();

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (kernel_lacks(rows[i].try)) {
			skip("this kernel has no 32-bit system calls");
			continue;
		}
		expect(&n, false, rows[i].try, rows[i].entered, rows[i].name);
		expect(&n, true, rows[i].try, rows[i].connected, rows[i].name);
	}
}

int main(void)
{
	if (nothing_to_test())
		return 0;
	prepare();
	test_rows();
	return finish();
}
