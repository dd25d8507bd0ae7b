/* SPDX-License-Identifier: ISC
 *
 * nosandbox.c - for counting instructions only: step 5 would kill valgrind, which lives in the process that it counts.
 *
 * Linked with --wrap into bench/out/pgssl-nosandbox, a program that is never installed. The look-up of the user still runs.
 */
#include "sandbox/sandbox.h"

bool __wrap_sandbox_drop_privileges(const struct sandbox_user *who, struct error *e);
bool __wrap_sandbox_enter(const struct sandbox_needs *needs, struct error *e);
bool __wrap_sandbox_connected(struct error *e);

bool __wrap_sandbox_drop_privileges(const struct sandbox_user *who, struct error *e)
{
	(void)who, (void)e;
	return true;
}

bool __wrap_sandbox_enter(const struct sandbox_needs *needs, struct error *e)
{
	(void)needs, (void)e;
	return true;
}

bool __wrap_sandbox_connected(struct error *e)
{
	(void)e;
	return true;
}
