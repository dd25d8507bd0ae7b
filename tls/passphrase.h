/* SPDX-License-Identifier: ISC
 *
 * tls/passphrase.h - --passphrase-command: the passphrase of an encrypted private key.
 */
#ifndef PGSSL_TLS_PASSPHRASE_H
#define PGSSL_TLS_PASSPHRASE_H

#include "log.h"

/*
 * Run `command` with sh -c, standard input and error /dev/null and none of our other descriptors, and take the first line that it
 * prints, without its newline, into `buf` (NUL-terminated). Blocks for 10 s at most; then the command is killed. Fails with EX_CONFIG when it
 * prints nothing or too much, or ends with an error. `buf` is the caller's to wipe.
 */
bool passphrase_read(const char *command, char *buf, size_t size, struct error *e) MUST_USE;

/*
 * The parent of -d: keep what the command prints next and give it again instead of running it, since the sandbox of step 5 runs no program and a
 * renewed key is read after it. It is worth as much as the key, which the parent keeps too. The children forget it.
 */
void passphrase_keep(void);
void passphrase_forget(void);

#endif
