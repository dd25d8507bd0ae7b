/* SPDX-License-Identifier: ISC
 *
 * t/failing_malloc.c - pgssl with an allocation that fails, in a whole session: handshake, login,
 * and data both ways.
 *
 *	failing_malloc KIND FIRST STEP LAST OPTION...
 *
 * runs it for each allocation FIRST, FIRST + STEP and so on, up to LAST or until none fails any
 * more. That one alone fails, and in a second run all from there on. FIRST 0 is the first one after
 * OpenSSL's initialisation, and 0+N the N-th after that. Prints a line for each run: the number, "alone" or "on", what became of
 * the process ("exit", "signal" or "hang", and a number), what the client saw, and the log.
 *
 * t/whole_session.h explains KIND and what the client sees.
 *
 * glibc's regcomp() and the first look-up of a user crash without memory. A process that this ended
 * is reported with "glibc" instead of "signal".
 *
 * The linker inserts the functions __wrap_NAME; malloc() is replaced by the one here.
 */
#include <errno.h>
#include <pwd.h>
#include <regex.h>
#include <sys/mman.h>
#include <sysexits.h>

#include "whole_session.h"

struct options;
struct error;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
int __real_main(int argc, char **argv, char **envp);
int __wrap_main(int argc, char **argv, char **envp);
int __real_regcomp(regex_t *regex, const char *text, int flags);
int __wrap_regcomp(regex_t *regex, const char *text, int flags);
struct passwd *__real_getpwnam(const char *name);
struct passwd *__wrap_getpwnam(const char *name);
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

static bool fails(void)
{
	count++;
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
	shared->in_glibc = true;
	int result = __real_regcomp(regex, text, flags);
	shared->in_glibc = false;
	return result;
}

struct passwd *__wrap_getpwnam(const char *name)
{
	shared->in_glibc = true;
	struct passwd *pw = __real_getpwnam(name);
	shared->in_glibc = false;
	return pw;
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

/* Run it once; print what it did. */
static void report(unsigned long at, bool on)
{
	static struct run r;

	fail_on = on;
	shared->in_glibc = false;
	run_once(&r, start_failing, &at);
	bool signalled = WIFSIGNALED(r.status);
	const char *end = !r.in_time         ? "hang"
			  : !signalled       ? "exit"
			  : shared->in_glibc ? "glibc"
					     : "signal";
	printf("%lu %s %s %d %s %s\n", at, on ? "on" : "alone", end,
	       signalled ? WTERMSIG(r.status) : WEXITSTATUS(r.status), r.saw, r.log);
	fflush(stdout);
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
	report(0, false); /* none fails */
	first += first == 0 ? shared->at_settings : 0;
	first += plus != NULL ? strtoul(plus, NULL, 10) : 0;
	shared->reached = true;
	for (unsigned long at = first; at <= last && shared->reached; at += step) {
		shared->reached = false;
		report(at, false);
		report(at, true);
	}
	return 0;
}
