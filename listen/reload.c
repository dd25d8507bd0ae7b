/* SPDX-License-Identifier: ISC
 *
 * listen/reload.c - step 3 for a listener: a new certificate needs neither signal nor restart.
 *
 * The stamps are taken before the files are read: a change in between is noticed next time.
 */
#include "listen/internal.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#define RETRY_MS 5000

/* What a file looked like, or the sum over a directory and its files; zeros if it was not there. */
struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec modified, changed;
};

static struct stamp seen[SESSION_FILES];
static deadline next_try = DEADLINE_NEVER; /* after a failure */
static char last_error[sizeof((struct error *)0)->text];

static void add_to_stamp(struct stamp *s, const struct stat *st)
{
	s->dev += st->st_dev;
	s->ino += st->st_ino;
	s->size += st->st_size;
	s->modified.tv_sec += st->st_mtim.tv_sec;
	s->modified.tv_nsec += st->st_mtim.tv_nsec;
	s->changed.tv_sec += st->st_ctim.tv_sec;
	s->changed.tv_nsec += st->st_ctim.tv_nsec;
}

static void take_stamp(struct stamp *s, const char *path)
{
	const struct dirent *entry;
	struct stat st;
	DIR *d = NULL;

	if (stat(path, &st) != 0)
		return;
	add_to_stamp(s, &st);
	if (S_ISDIR(st.st_mode))
		d = opendir(path);
	while (d != NULL && (entry = readdir(d)) != NULL)
		if (entry->d_name[0] != '.' && fstatat(dirfd(d), entry->d_name, &st, 0) == 0)
			add_to_stamp(s, &st);
	if (d != NULL)
		closedir(d);
}

static void take_stamps(const struct session *s, struct stamp now[SESSION_FILES])
{
	const char *files[SESSION_FILES];
	unsigned n = session_files(&s->options, files);

	memset(now, 0, SESSION_FILES * sizeof *now); /* padding is compared too */
	for (unsigned i = 0; i < n; i++)
		take_stamp(&now[i], files[i]);
}

bool reload_first(struct session *s, struct error *e)
{
	take_stamps(s, seen);
	return session_load(&s->options, &s->tls, &s->map, e);
}

void reload_discard(struct session *s)
{
	if (s->tls == NULL)
		return;
	tls_discard(s->tls);
	s->tls = NULL;
	identmap_free(s->map);
	s->map = NULL;
}

void reload_if_changed(struct session *s, bool force)
{
	struct stamp now[SESSION_FILES];
	struct tls *fresh;
	struct identmap *fresh_map;
	struct error e;

	take_stamps(s, now);
	if (!force && memcmp(now, seen, sizeof now) == 0 && deadline_left(next_try) != 0)
		return;
	memcpy(seen, now, sizeof now);
	if (session_load(&s->options, &fresh, &fresh_map, &e)) {
		reload_discard(s);
		s->tls = fresh;
		s->map = fresh_map;
		next_try = DEADLINE_NEVER;
		last_error[0] = '\0';
		log_line(LOG_NOTICE, "reloaded certificate and key");
		return;
	}
	next_try = deadline_in(RETRY_MS);
	if (force || strcmp(last_error, e.text) != 0)
		log_line(LOG_ERR,
			 "could not reload certificate and key, the old ones stay in use: %s",
			 e.text);
	strlcpy(last_error, e.text, sizeof last_error);
}
