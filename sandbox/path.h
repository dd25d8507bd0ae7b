/* SPDX-License-Identifier: ISC
 *
 * sandbox/path.h - files that root opens, and directories that others can write to.
 *
 * Others are all users but root and this one.
 */
#ifndef PGSSL_SANDBOX_PATH_H
#define PGSSL_SANDBOX_PATH_H

#include <limits.h>
#include <stdbool.h>

/*
 * Replace the links in `path` by their targets, in place; a part that does not exist stays. Returns
 * NULL, or why it cannot be done: a link in a directory that others can write to is not followed.
 */
const char *path_resolve(char path[PATH_MAX]);

/* The directory `path`, or the first one above it, where others can replace a file; NULL if there
 * is none. Changes `path`. */
const char *path_replaceable(char *path);

/*
 * Open `file` to append to it, or create it with mode 0640. Where others can write to its directory
 * it must be a regular file with one name. Returns a descriptor, or -1 and the reason in *why.
 */
int path_append(const char *file, const char **why);

#endif
