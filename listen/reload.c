/* SPDX-License-Identifier: ISC
 *
 * listen/reload.c - step 3 for the parent of -d: a renewed certificate needs neither signal nor restart.
 *
 * The stamps are taken before the files are read: a change in between is seen at the next look.
 */
#include "listen/reload.h"

#include <string.h>
#include <sys/stat.h>

#define RETRY_MS 5000

/* What a file looked like; zeros if it was not there. */
struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec modified, changed;
};

static struct stamp seen[SESSION_FILES];
static deadline retry = DEADLINE_NEVER; /* after a failure */
static char told[sizeof((struct error *)0)->text];

static void look(const struct session *s, struct stamp now[SESSION_FILES])
{
	const char *files[SESSION_FILES];
	unsigned n = session_files(s, files);
	struct stat st;

	memset(now, 0, SESSION_FILES * sizeof *now); /* padding too: they are compared as bytes */
	for (unsigned i = 0; i < n; i++) {
		if (stat(files[i], &st) != 0)
			continue;
		now[i].dev = st.st_dev;
		now[i].ino = st.st_ino;
		now[i].size = st.st_size;
		now[i].modified = st.st_mtim;
		now[i].changed = st.st_ctim;
	}
}

bool reload_first(struct session *s, struct error *e)
{
	look(s, seen);
	return session_load(s, &s->tls, &s->map, e);
}

void reload_look(struct session *s, bool force)
{
	struct stamp now[SESSION_FILES];
	struct tls *fresh;
	struct identmap *fresh_map;
	struct error e;

	look(s, now);
	if (!force && memcmp(now, seen, sizeof now) == 0 && deadline_left(retry) != 0)
		return;
	memcpy(seen, now, sizeof now);
	if (session_load(s, &fresh, &fresh_map, &e)) {
		tls_discard(s->tls);
		s->tls = fresh;
		identmap_free(s->map);
		s->map = fresh_map;
		retry = DEADLINE_NEVER;
		told[0] = '\0';
		log_line(LOG_NOTICE, "certificate and key were loaded afresh");
		return;
	}
	retry = deadline_in(RETRY_MS);
	if (force || strcmp(told, e.text) != 0)
		log_line(LOG_ERR,
			 "certificate and key were not loaded afresh, the old ones stay in use: %s",
			 e.text);
	strlcpy(told, e.text, sizeof told);
}
