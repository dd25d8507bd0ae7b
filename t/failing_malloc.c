/* SPDX-License-Identifier: ISC
 *
 * t/failing_malloc.c - pgssl with an allocation that fails, in a whole session: handshake, login,
 * and data both ways.
 *
 *	failing_malloc KIND FIRST STEP LAST OPTION...
 *
 * runs it for each allocation FIRST, FIRST + STEP and so on, up to LAST or until none fails any
 * more. That one alone fails, and in a second run all from there on. FIRST 0 is the first one after
 * OpenSSL's initialisation, and 0+N the N-th after that. Prints a line for each run: the number,
 * "alone" or "on", what became of the process ("exit", "signal" or "hang", and a number), what the
 * client saw, and the log.
 *
 * Up to step 5, in which the sandbox forbids fork(), all runs are copies of one process at that
 * allocation. The others are copies of it at step 5.
 *
 * t/whole_session.h explains KIND and what the client sees.
 *
 * glibc's regcomp() and the first look-up of a user crash without memory. A process that this ended
 * is reported with "glibc" instead of "signal".
 *
 * The linker inserts the functions __wrap_NAME; malloc() is replaced by the one here.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <regex.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <time.h>

#include "whole_session.h"

struct options;
struct error;
struct address_list;
struct sandbox_needs;
struct sandbox_user;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
int __real_main(int argc, char **argv, char **envp);
int __wrap_main(int argc, char **argv, char **envp);
int __real_regcomp(regex_t *regex, const char *text, int flags);
int __wrap_regcomp(regex_t *regex, const char *text, int flags);
struct passwd *__real_getpwnam(const char *name);
struct passwd *__wrap_getpwnam(const char *name);
void __wrap_closefrom(int first);
int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
bool __real_address_look_up_listen(struct address_list *list, const struct options *o,
				   struct error *e);
bool __wrap_address_look_up_listen(struct address_list *list, const struct options *o,
				   struct error *e);
pid_t __real_getppid(void);
pid_t __wrap_getppid(void);
bool __real_sandbox_drop_privileges(const struct sandbox_user *who, struct error *e);
bool __wrap_sandbox_drop_privileges(const struct sandbox_user *who, struct error *e);
bool __real_sandbox_enter_parent(const struct sandbox_needs *needs, struct error *e);
bool __wrap_sandbox_enter_parent(const struct sandbox_needs *needs, struct error *e);
bool __real_tls_apply_settings(SSL_CTX *ctx, const struct options *o, struct error *e);
bool __wrap_tls_apply_settings(SSL_CTX *ctx, const struct options *o, struct error *e);

/* ---- allocations ---- */

static unsigned long count, fail_at; /* fail_at 0: never */
static bool fail_on;

static struct shared {
	bool reached;
	bool in_glibc;
	unsigned long at_settings; /* the count after OpenSSL's initialisation */
} * shared;

/* The process that is copied. Its clock stands still meanwhile. */
static unsigned long copy_at, copy_step, copy_last; /* copy_at 0: it is not this one */
static pid_t copied;                                /* what a copy's parent would be */
static bool listening, reporting, inside_glibc;
static int64_t lost_ns;
static FILE *results;

static bool report(unsigned long at, bool on, void (*start)(void *at));

static void start_copy(void *at)
{
	fail_at = *(unsigned long *)at;
	copy_at = 0;
}

static int64_t real_ns(void)
{
	struct timespec ts;

	__real_clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* The copies share the offsets of open files with the process. Results may go to descriptor 1. */
enum { FILES = 32 };

static void keep_offsets(off_t *offsets)
{
	for (int fd = STDERR_FILENO + 1; fd < FILES; fd++)
		offsets[fd] = lseek(fd, 0, SEEK_CUR);
}

static void restore_offsets(const off_t *offsets)
{
	for (int fd = STDERR_FILENO + 1; fd < FILES; fd++)
		if (offsets[fd] >= 0)
			(void)lseek(fd, offsets[fd], SEEK_SET);
}

/* True in a copy, in which this allocation must fail. */
static bool make_copies(void)
{
	int64_t begin = real_ns();
	int error = errno;
	off_t offsets[FILES];
	bool in_copy = false;

	reporting = true;
	keep_offsets(offsets);
	for (int on = 0; on < 2 && !in_copy; on++) {
		in_copy = !report(copy_at, on != 0, start_copy);
		if (!in_copy)
			restore_offsets(offsets);
	}
	errno = error;
	reporting = false;
	lost_ns += real_ns() - begin;
	if (!in_copy)
		copy_at += copy_step;
	return in_copy;
}

static bool fails(void)
{
	if (reporting)
		return false;
	count++;
	if (copy_at != 0 && count == copy_at && count <= copy_last && !make_copies())
		return false;
	if (fail_at == 0 || count < fail_at)
		return false;
	shared->reached = true;
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

bool __wrap_tls_apply_settings(SSL_CTX *ctx, const struct options *o, struct error *e)
{
	if (shared->at_settings == 0)
		shared->at_settings = count;
	return __real_tls_apply_settings(ctx, o, e);
}

int __wrap_regcomp(regex_t *regex, const char *text, int flags)
{
	shared->in_glibc = inside_glibc = true;
	int result = __real_regcomp(regex, text, flags);
	shared->in_glibc = inside_glibc = false;
	return result;
}

struct passwd *__wrap_getpwnam(const char *name)
{
	shared->in_glibc = inside_glibc = true;
	struct passwd *pw = __real_getpwnam(name);
	shared->in_glibc = inside_glibc = false;
	return pw;
}

/* ---- what a copy needs ---- */

enum { KEPT = 900 }; /* descriptors from here on stay open */

void __wrap_closefrom(int first)
{
	(void)close_range((unsigned)first, KEPT - 1, 0);
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	int result = __real_clock_gettime(id, ts);
	int64_t ns = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec - lost_ns;

	if (id == CLOCK_MONOTONIC)
		*ts = (struct timespec){ns / 1000000000, ns % 1000000000};
	return result;
}

/* From here on the listener knows its own process id, and its sessions compare. */
bool __wrap_address_look_up_listen(struct address_list *list, const struct options *o,
				   struct error *e)
{
	listening = true;
	if (copy_at != 0)
		copied = getpid();
	return __real_address_look_up_listen(list, o, e);
}

pid_t __wrap_getppid(void)
{
	return listening && copied != 0 ? copied : __real_getppid();
}

/* Make the copies that fail later. Returns in each. */
static void finish_copying(void)
{
	if (copy_at == 0)
		return;
	do
		shared->reached = false;
	while (copy_at <= copy_last && !make_copies() && shared->reached);
	if (copy_at != 0)
		_exit(0);
}

/* A socket for the backend, which copies cannot share, is created next. */
bool __wrap_sandbox_drop_privileges(const struct sandbox_user *who, struct error *e)
{
	finish_copying();
	return __real_sandbox_drop_privileges(who, e);
}

bool __wrap_sandbox_enter_parent(const struct sandbox_needs *needs, struct error *e)
{
	finish_copying();
	return __real_sandbox_enter_parent(needs, e);
}

/* ---- the runs ---- */

static char **pgssl_argv, **environment;

static void start_failing(void *at)
{
	int argc = 0;

	while (pgssl_argv[argc] != NULL)
		argc++;
	count = 0;
	fail_at = *(unsigned long *)at;
	exit(__real_main(argc, pgssl_argv, environment));
}

/* Run it once; print what it did. False in a copy. */
static bool report(unsigned long at, bool on, void (*start)(void *at))
{
	static struct run r;

	fail_on = on;
	shared->in_glibc = inside_glibc; /* a copy may begin there */
	if (!run_once(&r, start, &at))
		return false;
	bool signalled = WIFSIGNALED(r.status);
	const char *end = !r.in_time         ? "hang"
			  : !signalled       ? "exit"
			  : shared->in_glibc ? "glibc"
					     : "signal";
	fprintf(results, "%lu %s %s %d %s %s\n", at, on ? "on" : "alone", end,
		signalled ? WTERMSIG(r.status) : WEXITSTATUS(r.status), r.saw, r.log);
	fflush(results);
	return true;
}

static void start_copied(void *at)
{
	copy_at = *(unsigned long *)at;
	start_failing(&(unsigned long){0});
}

/* Descriptors that outlive step 0. */
static void keep_descriptors(void)
{
	int out = fcntl(STDOUT_FILENO, F_DUPFD, KEPT), kept = fcntl(control, F_DUPFD, KEPT);

	results = fdopen(out, "w");
	if (results == NULL || kept < 0)
		abort();
	close(control);
	control = kept;
}

/* Nobody speaks to the process that is copied. */
static void run_copies(unsigned long first)
{
	int client[2], log[2], status;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client) != 0 ||
	    pipe2(log, O_CLOEXEC) != 0)
		abort();
	pid_t pid = fork_plainly();
	if (pid == 0) {
		use_descriptors(client, log);
		if (kind == 'l') {
			close(client[0]);
			close(client[1]);
		}
		start_copied(&first);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		fprintf(results, "the copied process ended: %d\n", status);
	close(client[0]);
	close(client[1]);
	close(log[0]);
	close(log[1]);
}

int __wrap_main(int argc, char **argv, char **envp)
{
	if (argc < 6)
		return EX_USAGE;
	unsigned long first = strtoul(argv[2], NULL, 10), step = strtoul(argv[3], NULL, 10);
	unsigned long last = strtoul(argv[4], NULL, 10);

	const char *plus = strchr(argv[2], '+');
	kind = argv[1][0];
	pgssl_argv = argv + 4;
	environment = envp;
	shared =
	    mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || step == 0)
		return EX_OSERR;
	start_peers();
	for (char **p = pgssl_argv; *p != NULL; p++)
		if (strcmp(*p, "BACKEND") == 0)
			*p = backend_address;
	keep_descriptors();
	report(0, false, start_failing); /* none fails */
	first += first == 0 ? shared->at_settings : 0;
	first += plus != NULL ? strtoul(plus, NULL, 10) : 0;
	copy_step = step;
	copy_last = last;
	run_copies(first);
	return 0;
}
