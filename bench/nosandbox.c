/* SPDX-License-Identifier: ISC
 *
 * bench/nosandbox.c - replaces step 5, which would kill valgrind, when instructions are counted.
 *
 * Linked with --wrap into bench/out/pgssl-nosandbox, which is never installed. The look-up of the
 * user still runs.
 */
#include "sandbox/sandbox.h"

bool __wrap_sandbox_drop_privileges(const struct sandbox_user *who, struct error *e);
bool __wrap_sandbox_enter(const struct sandbox_needs *needs, struct error *e);
bool __wrap_sandbox_connected(struct error *e);
bool __wrap_sandbox_enter_parent(const struct sandbox_needs *needs, struct error *e);

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

bool __wrap_sandbox_enter_parent(const struct sandbox_needs *needs, struct error *e)
{
	(void)needs, (void)e;
	return true;
}
