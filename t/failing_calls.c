/* SPDX-License-Identifier: ISC
 *
 * t/failing_calls.c - sessions of pgssl under another program, such as strace:
 *
 *	failing_calls KIND <COMMANDS
 *
 * runs each line of its input, words between single blanks, and prints what became of it: "exit",
 * "signal" or "hang", a number, what the client saw, and the log. t/whole_session.h explains the
 * rest.
 */
#include <sysexits.h>

#include "whole_session.h"

enum { WORDS_MAX = 100 };

static void start_command(void *words)
{
	execvp(((char **)words)[0], words);
	abort();
}

int main(int argc, char **argv)
{
	static struct run r;
	static char line[8192];
	char *words[WORDS_MAX + 1];

	if (argc != 2)
		return EX_USAGE;
	kind = argv[1][0];
	signal(SIGPIPE, SIG_IGN);
	start_peers();
	while (fgets(line, sizeof line, stdin) != NULL) {
		unsigned n = 0;
		line[strcspn(line, "\n")] = '\0';
		for (char *p = strtok(line, " "); p != NULL && n < WORDS_MAX; p = strtok(NULL, " "))
			words[n++] = strcmp(p, "BACKEND") == 0 ? backend_address : p;
		words[n] = NULL;
		(void)run_once(&r, start_command, words);
		bool signalled = WIFSIGNALED(r.status);
		printf("%s %d %s %s\n",
		       !r.in_time  ? "hang"
		       : signalled ? "signal"
				   : "exit",
		       signalled ? WTERMSIG(r.status) : WEXITSTATUS(r.status), r.saw, r.log);
		fflush(stdout);
	}
	return 0;
}
