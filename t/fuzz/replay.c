/* SPDX-License-Identifier: ISC
 *
 * t/fuzz/replay.c - run a fuzz target on the files of its corpus: t/bin/replay_NAME reads
 * t/corpus/NAME, or the files and directories that are named. Prints TAP.
 *
 * A failed check ends the process before the plan is printed, which prove reports; the last line
 * has the file.
 */
#include <dirent.h>

#include "fuzz.h"
#include "tap.h"

static unsigned char bytes[1 << 16];

static void replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	size_t len = f == NULL ? 0 : fread(bytes, 1, sizeof bytes, f);
	unsigned char *copy = malloc(len + 1); /* of its exact size, for the sanitizers */

	note("%s", path);
	fflush(stdout);
	if (f == NULL || copy == NULL)
		abort();
	fclose(f);
	memcpy(copy, bytes, len);
	copy = realloc(copy, len > 0 ? len : 1);
	ok(LLVMFuzzerTestOneInput(copy, len) == 0, "%s", path);
	free(copy);
}

static void replay(const char *path)
{
	struct dirent **files;
	char file[4096];
	int n = scandir(path, &files, NULL, alphasort);

	if (n < 0) /* not a directory */
		replay_file(path);
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof file, "%s/%s", path, files[i]->d_name);
		if (files[i]->d_name[0] != '.')
			replay_file(file);
		free(files[i]);
	}
	if (n >= 0)
		free(files);
}

int main(int argc, char **argv)
{
	char path[4096];
	const char *slash = strrchr(argv[0], '/'), *name = strstr(argv[0], "replay_");

	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	if (argc == 1 && slash != NULL && name != NULL) {
		snprintf(path, sizeof path, "%.*s/../corpus/%s", (int)(slash - argv[0]), argv[0],
			 name + strlen("replay_"));
		replay(path);
	}
	return done_testing(); /* which fails if there was no file */
}
