/* SPDX-License-Identifier: ISC
 *
 * sandbox_os.h - what sandbox.c asks of the operating system's own means: sandbox_landlock.c and sandbox_seccomp.c, or the end of sandbox.c.
 *
 * None of these blocks. Each may be called once, in the order in which they stand here. A layer that the kernel lacks is noted in `missing`, not an error.
 */
#ifndef PGSSL_SANDBOX_OS_H
#define PGSSL_SANDBOX_OS_H

#include "sandbox.h"

enum layer {
	LAYER_FILES = 1, /* Landlock, unveil */
	LAYER_CALLS = 2, /* seccomp, pledge, capability mode */
};

/* No core, no ptrace by others, no privileges by execve; with `drop_capabilities` none of those either that root or systemd gave us. */
bool os_shut_process(bool drop_capabilities, struct error *e) MUST_USE;

/* No file but the pid file's removal; no TCP but to the ports. */
bool os_shut_files(const struct sandbox_needs *needs, unsigned *missing, struct error *e) MUST_USE;
bool os_shut_parent_files(const struct sandbox_parent_needs *needs, unsigned *missing, struct error *e) MUST_USE;

/* No system call but the listed ones. */
bool os_shut_calls(const struct sandbox_needs *needs, unsigned *missing, struct error *e) MUST_USE;
bool os_shut_parent_calls(const struct sandbox_parent_needs *needs, unsigned *missing, struct error *e) MUST_USE;

/* Neither connect nor bind from now on. */
bool os_shut_connect(struct error *e) MUST_USE;

#endif
