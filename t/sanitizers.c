/* SPDX-License-Identifier: ISC
 *
 * t/sanitizers.c - part of pgssl in `make check SAN=1` only: takes out what the sanitizers cannot
 * live with, as bench/nosandbox.c does for valgrind.
 *
 * The linker replaces Landlock and seccomp, since a report opens files and the search for leaks
 * starts a process that traces this one; the limits of memory, files, descriptors and processes;
 * the dumpable flag; and OpenSSL's secure heap, where neither bounds nor leaks would be seen.
 * Dropping privileges and capabilities and wiping the environment remain.
 */
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "sandbox/sandbox.h"

const char *__asan_default_options(void);
const char *__lsan_default_suppressions(void);
int __lsan_is_turned_off(void);
bool __wrap_sandbox_landlock(const struct sandbox_needs *needs, int *missing, struct error *e);
bool __wrap_sandbox_seccomp(const struct sandbox_needs *needs, bool parent, int *missing,
			    struct error *e);
int __wrap_CRYPTO_secure_malloc_init(size_t size, size_t least);
int __wrap_setrlimit(unsigned what, const struct rlimit *limit);
int __real_setrlimit(unsigned what, const struct rlimit *limit);
int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int __real_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);

/* Here and not in the environment, which super-servers clear. Tests preload libraries. */
const char *__asan_default_options(void)
{
	return "log_path=" SAN_REPORTS
	       "/pgssl:exitcode=86:handle_sigill=1:verify_asan_link_order=0";
}

/* The search for leaks fails under strace(1): only one process can trace another. */
int __lsan_is_turned_off(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	int tracer = 0;

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		(void)sscanf(line, "TracerPid: %d", &tracer);
	if (f != NULL)
		fclose(f);
	return tracer != 0;
}

/* setproctitle() of libbsd copies the environment; step 5 wipes the only pointer to that. */
const char *__lsan_default_suppressions(void)
{
	return "leak:setproctitle_init\n";
}

bool __wrap_sandbox_landlock(const struct sandbox_needs *needs, int *missing, struct error *e)
{
	(void)needs, (void)e;
	*missing = 0;
	return true;
}

bool __wrap_sandbox_seccomp(const struct sandbox_needs *needs, bool parent, int *missing,
			    struct error *e)
{
	(void)needs, (void)parent, (void)e;
	*missing = 0;
	return true;
}

int __wrap_CRYPTO_secure_malloc_init(size_t size, size_t least)
{
	(void)size, (void)least;
	return 1;
}

/* A limit may be raised (listen/children.c), and there is no core file. */
int __wrap_setrlimit(unsigned what, const struct rlimit *limit)
{
	struct rlimit now;

	if (what != RLIMIT_CORE && getrlimit(what, &now) == 0 && limit->rlim_max < now.rlim_max)
		return 0;
	return __real_setrlimit(what, limit);
}

/* A process that has changed its user is not dumpable until it says so. */
int __wrap_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	return __real_prctl(option, option == PR_SET_DUMPABLE ? 1 : a, b, c, d);
}
