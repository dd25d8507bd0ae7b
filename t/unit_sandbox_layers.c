/* SPDX-License-Identifier: ISC
 *
 * t/unit_sandbox_layers.c - each layer of step 5 alone, the state in /proc, privileges, the sandbox
 * of the listener, and the cost.
 *
 * sabotage: sandbox/landlock.c s/NET_BIND_TCP | NET_CONNECT_TCP/NET_BIND_TCP/
 */
#include "sandbox_harness.h"

static struct stat st;
static struct pidfh *pidfile;
static bool root;

TRY(nothing, 0)
/* Close a descriptor first, or RLIMIT_NOFILE would fail the call. */
TRY(open, (close(tcp2), open("/etc/passwd", O_RDONLY)))
TRY(create, (close(tcp2), open(inside, O_CREAT | O_WRONLY, 0600)))
TRY(open_more, open("/", O_PATH))
TRY(truncate, truncate(elsewhere, 0))
TRY(fork, fork())
TRY(kill, kill(getppid(), 0))
TRY(connect_right, connect(tcp, PEER(right)))
TRY(connect_wrong, connect(tcp, PEER(wrong)))
TRY(bind_any, bind(tcp, PEER(((struct sockaddr_in){.sin_family = AF_INET,
						   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}))))
TRY(unlink_elsewhere, unlink(elsewhere))
TRY(setuid, setuid(0))
TRY(port_25, bind(tcp, PEER(((struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(25)}))))

static long try_remove_pidfile(void)
{
	return pidfile_remove(pidfile) == 0 && stat(inside, &st) < 0 ? 0 : -1;
}

static long try_bind_connect(void)
{
	return try_bind_any() == 0 ? try_connect_right() : -1;
}

/* A kernel without seccomp: Landlock, limits and dropped privileges still hold. */
static void test_without_seccomp(void)
{
	struct sandbox_needs n = needs();

	play_no_seccomp = true;
	expect(&n, true, try_open, "EACCES", "no seccomp: open");
	expect(&n, true, try_create, "EACCES", "no seccomp: create");
	expect(&n, true, try_truncate, "EACCES", "no seccomp: truncate");
	expect(&n, true, try_unlink_elsewhere, "EACCES", "no seccomp: unlink");
	expect(&n, true, try_open_more, "EMFILE", "no seccomp: one more descriptor");
	expect(&n, true, try_connect_right, "ok", "no seccomp: connect to PostgreSQL");
	expect(&n, true, try_connect_wrong, "EACCES", "no seccomp: connect elsewhere");
	expect(&n, true, try_bind_any, "EACCES", "no seccomp: bind");
	expect(&n, true, try_kill, "EPERM", "no seccomp: signal another process");
	expect(&n, true, try_fork, "EAGAIN", "no seccomp: fork");
	expect(&n, true, try_setuid, "EPERM", "no seccomp: setuid");
	play_no_seccomp = false;
}

/* Kernels with an older Landlock or none. */
static void test_older_landlock(void)
{
	struct sandbox_needs n = needs();

	for (play_abi = 0; play_abi <= 6; play_abi++) {
		char name[40];

		snprintf(name, sizeof name, "Landlock ABI %d", play_abi);
		expect(&n, false, try_nothing, "ok", name);
		expect(&n, false, try_open, "EACCES", name);
		expect(&n, false, try_connect_wrong, play_abi >= 4 ? "EACCES" : "ok", name);
		play_no_seccomp = true;
		expect(&n, false, try_open, play_abi >= 1 ? "EACCES" : "ok", name);
		expect(&n, false, try_nothing, "ok", name);
		play_no_seccomp = false;
	}
	play_abi = -1;
}

/* The pid file, created by the final user before step 5, can be removed; nothing else can. */
static const char *with_pidfile(const struct sandbox_needs *n, long (*try)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct error e;
		pid_t other;

		prepare_child();
		if (!sandbox_drop_privileges(&user, &e) ||
		    (pidfile = pidfile_open(inside, 0644, &other)) == NULL)
			_exit(NOT_ENTERED);
		pidfile_write(pidfile);
		if (!sandbox_enter(n, &e) || !sandbox_connected(&e))
			_exit(NOT_ENTERED);
		_exit(try() >= 0 ? 0 : errno);
	}
	waitpid(pid, &status, 0);
	return outcome(status);
}

static void test_pidfile(void)
{
	struct sandbox_needs n = needs();

	n.remove_in = pids;
	ok(strcmp(with_pidfile(&n, try_remove_pidfile), "ok") == 0 && stat(inside, &st) != 0,
	   "pidfile_remove removes the file");
	ok(strcmp(with_pidfile(&n, try_unlink_elsewhere), "EACCES") == 0,
	   "unlink outside the directory of the pid file: EACCES");
	unlink(inside);
	n.remove_in = "/nowhere/at/all";
	ok(strcmp(attempt(&n, false, try_nothing), "not entered") == 0,
	   "a missing directory is an error");
}

static void test_bind(void)
{
	struct sandbox_needs n = needs();

	n.bind = true;
	expect(&n, false, try_bind_connect, "ok", "-T: bind, connect");
	expect(&n, true, try_bind_any, "SIGSYS", "-T: bind");
	n = (struct sandbox_needs){.unix_connect = true};
	expect(&n, false, try_connect_right, "EACCES", "Unix backend: TCP connect");
	n = (struct sandbox_needs){0};
	expect(&n, false, try_connect_right, "EACCES", "no backend: connect");
}

/* Without a log file RLIMIT_FSIZE is 0: a write to a file fails, but does not kill the process. */
static int log_fd;
TRY(write_file, write(log_fd, "x", 1) == 1 ? 0 : -1)

static void test_file_size(void)
{
	struct sandbox_needs n = needs();

	log_fd = open(elsewhere, O_WRONLY | O_APPEND | O_CLOEXEC);
	expect(&n, false, try_write_file, "EFBIG", "write to a file");
	n.log_to_file = true;
	expect(&n, false, try_write_file, "ok", "write to the log file");
	n.log_to_file = false;
	keep_output = true;
	int saved = dup(STDERR_FILENO);
	dup2(log_fd, STDERR_FILENO);
	expect(&n, false, try_write_file, "ok", "write to a file that is descriptor 2");
	dup2(saved, STDERR_FILENO);
	close(saved);
	keep_output = false;
	close(log_fd);
}

/* Does a line of /proc/PID/FILE begin with `want`? */
static bool proc_says(pid_t pid, const char *file, const char *want)
{
	char path[64], line[512];
	bool found = false;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	FILE *f = fopen(path, "r");
	while (f != NULL && !found && fgets(line, sizeof line, f) != NULL)
		found = strncmp(line, want, strlen(want)) == 0;
	if (f != NULL)
		fclose(f);
	return found;
}

static bool environ_is_wiped(pid_t pid)
{
	char path[64], text[65536];

	snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
	FILE *f = fopen(path, "r");
	size_t n = f == NULL ? 0 : fread(text, 1, sizeof text, f);
	if (f != NULL)
		fclose(f);
	return n > 0 && memmem(text, n, "TESTVALUE", 9) == NULL;
}

static void test_from_outside(void)
{
	static const struct {
		const char *file, *line;
	} facts[] = {
	    {"status", "NoNewPrivs:\t1\n"},
	    {"status", "Seccomp:\t2\n"},
	    {"status", "Groups:\t \n"},
	    {"status", "CapInh:\t0000000000000000\n"},
	    {"status", "CapPrm:\t0000000000000000\n"},
	    {"status", "CapEff:\t0000000000000000\n"},
	    {"status", "CapAmb:\t0000000000000000\n"},
	    {"limits", "Max core file size        0                    0 "},
	    {"limits", "Max processes             0                    0 "},
	    {"limits", "Max file size             0                    0 "},
	    {"limits", "Max data size             268435456            268435456 "},
	    {"limits", "Max open files            8                    8 "},
	};
	struct sandbox_needs n = needs();
	int ready[2], hold[2];
	char c;

	if (!root || pipe(ready) != 0 || pipe(hold) != 0)
		return;
	pid_t pid = fork();
	if (pid == 0) {
		struct error e;

		prepare_child();
		dup2(hold[0], 0);
		dup2(ready[1], 1);
		closefrom(3);
		if (!sandbox_drop_privileges(&user, &e) || !sandbox_enter(&n, &e))
			_exit(NOT_ENTERED);
		_exit(write(1, "x", 1) == 1 && read(0, &c, 1) == 1 ? 0 : 1);
	}
	if (read(ready[0], &c, 1) != 1)
		return;
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		ok(proc_says(pid, facts[i].file, facts[i].line), "/proc/PID/%s: %.40s",
		   facts[i].file, strtok(strdup(facts[i].line), "\n"));
	ok(environ_is_wiped(pid), "the environment is wiped from its memory");
	ok(write(hold[1], "x", 1) == 1 && waitpid(pid, NULL, 0) == pid, "it exits");
}

/* ---- privileges ---- */

static void test_find_user(void)
{
	struct sandbox_user who;
	struct error e;

	ok(!sandbox_find_user("no-such-user", NULL, &who, &e) && e.status == EX_NOUSER,
	   "unknown user: EX_NOUSER");
	ok(strstr(e.text, "no-such-user") != NULL, "the error names it: %s", e.text);
	ok(!sandbox_find_user(NULL, "no-such-group", &who, &e) && e.status == EX_NOUSER,
	   "unknown group: EX_NOUSER");
	ok(!sandbox_find_user("4294967295", "0", &who, &e), "-1 is not a user");
	if (!root) {
		ok(!sandbox_find_user("root", NULL, &who, &e) && e.status == EX_NOPERM,
		   "not root: EX_NOPERM");
		return;
	}
	ok(sandbox_find_user(NULL, NULL, &who, &e) && who.change && who.uid == 65534 &&
	       who.gid == 65534,
	   "root becomes nobody");
	ok(sandbox_find_user("root", NULL, &who, &e) && who.change && who.uid == 0 && who.gid == 0,
	   "-s root is allowed");
	ok(sandbox_find_user("daemon", NULL, &who, &e) && who.uid == 1 && who.gid == 1,
	   "-s takes the user's own group");
	ok(sandbox_find_user("daemon", "nogroup", &who, &e) && who.gid == 65534, "-g overrides it");
	ok(sandbox_find_user("12345", "54321", &who, &e) && who.uid == 12345 && who.gid == 54321,
	   "numbers");
	ok(!sandbox_find_user("12345", NULL, &who, &e) && e.status == EX_NOUSER,
	   "a number without an entry in the user database needs -g");
}

static void test_drop(const char *name, struct sandbox_user who, long (*try)(void),
		      const char *want)
{
	struct sandbox_needs n = needs();
	struct sandbox_user saved = user;
	gid_t groups[] = {4, 24, 27};

	if (setgroups(3, groups) != 0)
		return;
	user = who;
	play_no_seccomp = true;
	play_abi = 0;
	expect(&n, false, try, want, name);
	play_no_seccomp = false;
	play_abi = -1;
	user = saved;
}

TRY(in_no_group, getgroups(0, NULL) == 0 ? 0 : -1)

/* ---- the listener of -d ---- */

static long child_of_parent(void)
{
	struct sandbox_needs n = needs();
	struct error e;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	closefrom(fd + 1);
	openlog("pgssl-test", LOG_NDELAY, LOG_DAEMON);
	if (fd < 0 || !sandbox_drop_privileges(&user, &e) || !sandbox_enter(&n, &e) ||
	    connect(fd, PEER(right)) != 0 || !sandbox_connected(&e))
		return -1;
	return 0;
}

static const char *parent_attempt(long (*try)(void))
{
	const char *files[1] = {elsewhere};
	uint16_t port = ntohs(right.sin_port);
	struct sandbox_needs n = {
	    .read_again = files, .read_count = 1, .remove_in = pids, .tcp_port = port};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct error e;

		prepare_child();
		if (!sandbox_enter_parent(&n, &e))
			_exit(NOT_ENTERED);
		errno = FALSE_RESULT;
		_exit(try() >= 0 ? 0 : errno);
	}
	waitpid(pid, &status, 0);
	return outcome(status);
}

static long try_serve(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(child_of_parent() == 0 ? 0 : 1);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status == 0 && accept4(listener, NULL, NULL, SOCK_CLOEXEC) >= 0 ? 0 : -1;
}

static long try_end_child(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			poll(NULL, 0, -1);
	return kill(pid, SIGTERM) == 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status)
		   ? 0
		   : -1;
}

/* Open and read a file again, as a reload does. */
static long try_read_again(void)
{
	int fd = open(elsewhere, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, &(char){0}, 1) >= 0 ? close(fd) : -1;
}

TRY(execve, execve("/bin/true", (char *[]){NULL}, (char *[]){NULL}))
TRY(open_write, open(elsewhere, O_WRONLY))
TRY(kill_init, kill(getppid(), 0))
TRY(ptrace, ptrace(PTRACE_ATTACH, getppid(), 0, 0))
TRY(mmap_exec,
    mmap(NULL, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0)
TRY(popen, popen("true", "r") == NULL ? -1 : 0)

/* The errno that glibc gives for the refused clone(). */
#if __GLIBC_PREREQ(2, 41)
#define POPEN_REFUSED "EPERM"
#else
#define POPEN_REFUSED "ENOMEM"
#endif

static long try_make_pid_file(void)
{
	return open(inside, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static void test_parent(void)
{
	static const struct {
		const char *name;
		long (*try)(void);
		const char *want;
	} rows[] = {
	    {"fork a child that enters the sandbox, accept, wait", try_serve, "ok"},
	    {"signal a child", try_end_child, "ok"},
	    {"read a certificate again", try_read_again, "ok"},
	    {"write a certificate", try_open_write, "EACCES"},
	    {"open another file", try_open, "EACCES"},
	    {"create a file in the directory of the pid file", try_make_pid_file, "EACCES"},
	    {"execve", try_execve, "EPERM"},
	    {"popen", try_popen, POPEN_REFUSED},
	    {"signal another process", try_kill_init, "EPERM"},
	    {"ptrace", try_ptrace, "EPERM"},
	    {"mmap of executable memory", try_mmap_exec, "EPERM"},
	    {"connect elsewhere", try_connect_wrong, "EACCES"},
	    {"bind", try_bind_any, "EACCES"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *got = parent_attempt(rows[i].try);
		ok(strcmp(got, rows[i].want) == 0, "listener: %s: %s (%s)", rows[i].name,
		   rows[i].want, got);
	}
}

/* ---- the cost ---- */

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

enum { RUNS = 201 };

static void test_cost(void)
{
	double(*us)[RUNS] =
	    mmap(NULL, 3 * sizeof *us, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sandbox_needs n = needs();
	struct error e;

	n.remove_in = pids;
	for (int i = 0; i < RUNS; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			double t0 = now_us(), t1, t2;
			bool good = sandbox_drop_privileges(&user, &e);
			t1 = now_us();
			good = good && sandbox_enter(&n, &e);
			t2 = now_us();
			good = good && sandbox_connected(&e);
			us[0][i] = t1 - t0;
			us[1][i] = t2 - t1;
			us[2][i] = now_us() - t2;
			_exit(good ? 0 : NOT_ENTERED);
		}
		waitpid(pid, NULL, 0);
	}
	for (int k = 0; k < 3; k++)
		qsort(us[k], RUNS, sizeof us[k][0], by_size);
	note("median of %d, us: drop_privileges %.1f, enter %.1f, connected %.1f", RUNS,
	     us[0][RUNS / 2], us[1][RUNS / 2], us[2][RUNS / 2]);
	note("10%% quantile, us: drop_privileges %.1f, enter %.1f, connected %.1f",
	     us[0][RUNS / 10], us[1][RUNS / 10], us[2][RUNS / 10]);
	ok(us[1][RUNS / 2] < 1500,
	   "step 5 takes less than 1.5 ms, even on a busy machine (goal: 0.15)");
}

int main(int argc, char *argv[])
{
	(void)argc;
	if (getenv("SANDBOX_MARK") == NULL && setenv("SANDBOX_MARK", "TESTVALUE", 1) == 0)
		execv("/proc/self/exe", argv); /* the kernel stores the mark with the environment */
	if (nothing_to_test())
		return 0;
	prepare();
	root = geteuid() == 0;
	test_without_seccomp();
	test_older_landlock();
	test_pidfile();
	test_bind();
	test_file_size();
	test_from_outside();
	test_find_user();
	if (root) {
		test_drop("dropped: groups", user, try_in_no_group, "ok");
		test_drop("dropped: setuid(0)", user, try_setuid, "EPERM");
		test_drop("-s root: groups", (struct sandbox_user){0, 0, true}, try_in_no_group,
			  "ok");
		test_drop("-s root: a privileged port", (struct sandbox_user){0, 0, true},
			  try_port_25, "EACCES");
	}
	test_parent();
	test_cost();
	return finish();
}
