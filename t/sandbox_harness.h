/* SPDX-License-Identifier: ISC
 *
 * t/sandbox_harness.h - for the tests of sandbox/: simulate kernels that lack a layer; run code in
 * children after step 5.
 *
 * Old kernels are simulated by wrappers of prctl() and syscall() that the linker inserts (--wrap);
 * the program itself has no hook.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libutil.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/sandbox.h"
#include "tap.h"

#define PEER(a)        (const struct sockaddr *)&(a), sizeof(a)
#define RAW(name, ...) syscall(SYS_##name, __VA_ARGS__)
#define TRY(name, expression)                                                                      \
	static long try_##name(void)                                                               \
	{                                                                                          \
		return (long)(expression);                                                         \
	}

extern char **environ;

/* ---- kernels that lack a layer ---- */

static int play_abi = -1; /* the Landlock ABI to simulate; 0: none, -1: the kernel's */
static bool play_no_seccomp;

long __real_syscall(long nr, ...);
long __wrap_syscall(long nr, ...);
int __real_prctl(int option, ...);
int __wrap_prctl(int option, ...);

long __wrap_syscall(long nr, ...)
{
	long a[6];
	va_list args;

	va_start(args, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (nr == SYS_landlock_create_ruleset && a[0] == 0 && play_abi >= 0) {
		errno = ENOSYS;
		return play_abi > 0 ? play_abi : -1;
	}
	return __real_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int __wrap_prctl(int option, ...)
{
	unsigned long a[4];
	va_list args;

	va_start(args, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(args, unsigned long);
	va_end(args);
	if (option == PR_SET_SECCOMP && play_no_seccomp) {
		errno = EINVAL;
		return -1;
	}
	return __real_prctl(option, a[0], a[1], a[2], a[3]);
}

/* Say so if this machine has neither seccomp nor Landlock, as under qemu-user. */
static inline bool nothing_to_test(void)
{
	bool seccomp = __real_prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0L, 0L, 0L) == 0 ||
		       errno == EFAULT; /* seccomp(2) */
	bool landlock = __real_syscall(SYS_landlock_create_ruleset, 0L, 0L,
				       (long)LANDLOCK_CREATE_RULESET_VERSION) >= 1;

	if (!seccomp && !landlock)
		puts("1..0 # SKIP neither seccomp nor Landlock here (qemu-user has none)");
	return !seccomp && !landlock;
}

/* ---- a directory, a listener, and sockets made before step 5 as the program makes them ---- */

static char directory[] = "/tmp/pgssl.sandbox.XXXXXX";
static char pids[64], elsewhere[64], inside[80];
static int listener, pair[2], tcp, tcp2, dgram, to_syslog, null_fd;
static bool keep_output;
static struct sockaddr_in right, wrong;
static struct sockaddr_un syslogd = {.sun_family = AF_UNIX};
static struct sandbox_user user;

static inline void prepare(void)
{
	socklen_t len = sizeof right;
	struct error e;

	if (mkdtemp(directory) == NULL || !sandbox_find_user(NULL, NULL, &user, &e))
		abort();
	snprintf(pids, sizeof pids, "%s/pids", directory);
	snprintf(inside, sizeof inside, "%s/x.pid", pids);
	snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", directory);
	mkdir(pids, 0777);
	chmod(pids, 0777);
	chmod(directory, 0777);
	close(open(elsewhere, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
	right =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&right, len) != 0 || listen(listener, 100) != 0)
		abort();
	getsockname(listener, (struct sockaddr *)&right, &len);
	int other =
	    socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* stays open to keep its port */
	wrong =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(other, (struct sockaddr *)&wrong, len) != 0 || listen(other, 100) != 0)
		abort();
	getsockname(other, (struct sockaddr *)&wrong, &len);
	snprintf(syslogd.sun_path, sizeof syslogd.sun_path, "%s/log", directory);
	if (bind(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), PEER(syslogd)) != 0)
		abort();
	chmod(syslogd.sun_path, 0666);
	to_syslog = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

/* A syslog socket whose daemon has exited: sending fails with ECONNREFUSED. */
static inline int dead_syslog(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int daemon = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof un.sun_path, "%s/log.%d", directory, (int)getpid());
	if (bind(daemon, (struct sockaddr *)&un, sizeof un) != 0 ||
	    connect(fd, (struct sockaddr *)&un, sizeof un) != 0)
		abort();
	close(daemon);
	unlink(un.sun_path);
	return fd;
}

static inline void prepare_child(void)
{
	signal(SIGXFSZ, SIG_IGN); /* as step 0 does */
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (!keep_output) { /* a regular file there changes RLIMIT_FSIZE */
		dup2(null_fd, STDOUT_FILENO);
		dup2(null_fd, STDERR_FILENO);
	}
	tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	tcp2 = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	dgram = dead_syslog();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		abort();
	tzset();
}

static inline struct sandbox_needs needs(void)
{
	return (struct sandbox_needs){.tcp_port = ntohs(right.sin_port), .syslog = to_syslog};
}

enum { NOT_ENTERED = 250, FALSE_RESULT = 251 };

static inline const char *outcome(int status)
{
	static char text[64];

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return "SIGSYS";
	if (WIFSIGNALED(status))
		snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == NOT_ENTERED)
		return "not entered";
	else if (WEXITSTATUS(status) == FALSE_RESULT)
		return "false result";
	else
		snprintf(text, sizeof text, "%s",
			 WEXITSTATUS(status) == 0 ? "ok" : strerrorname_np(WEXITSTATUS(status)));
	return text;
}

/* Run `try` in a child after step 5. It returns like a system call: -1 and errno on failure. */
static inline const char *attempt(const struct sandbox_needs *n, bool connected, long (*try)(void))
{
	struct error e;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		prepare_child();
		if (!sandbox_drop_privileges(&user, &e) || !sandbox_enter(n, &e) ||
		    (connected && !sandbox_connected(&e)))
			_exit(NOT_ENTERED);
		errno = FALSE_RESULT;
		_exit(try() >= 0 ? 0 : errno);
	}
	waitpid(pid, &status, 0);
	return outcome(status);
}

static inline void expect(const struct sandbox_needs *n, bool connected, long (*try)(void),
			  const char *want, const char *name)
{
	const char *got = attempt(n, connected, try);

	if (!ok(strcmp(got, want) == 0, "%s: %s, %s", name, connected ? "connected" : "entered",
		want))
		note("got %s", got);
}

static inline int finish(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", directory);
	if (system(command) != 0)
		note("%s was not removed", directory);
	return done_testing();
}
