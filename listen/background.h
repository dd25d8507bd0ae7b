/* SPDX-License-Identifier: ISC
 *
 * listen/background.h - -d without -f: go to the background, and let whoever started us see whether that went well.
 */
#ifndef PGSSL_LISTEN_BACKGROUND_H
#define PGSSL_LISTEN_BACKGROUND_H

/*
 * Fork. Returns in the process that will stay, a session leader, whose standard error is still the starter's; the other one waits and exits with
 * EX_OK after background_ready, else as the one that stays exits.
 */
void background_begin(void);

/* Let go of the starter's descriptors: 0, 1 and 2 become /dev/null. Without background_begin nothing. */
void background_detach(void);

/* All is ready: the starter may go. Without background_begin nothing. */
void background_ready(void);

#endif
