/* SPDX-License-Identifier: ISC
 *
 * t/pump_peers.h - for t/unit_pump.c: the client and the backend, and what they speak: plain bytes,
 * TLS by OpenSSL, or a toy TLS whose side in pgssl is here too.
 *
 * A peer sends bytes that are a function of their position, and checks those that it receives. The
 * toy's records are a type, a length and a body. As TLS, it has records of 1 to 16384 bytes, an end
 * ('C'), and key updates that must be answered; unlike OpenSSL's, they come in two records ('K'
 * 'L'), between which nothing can be written, and their answer ('A') stops reads until it is sent.
 */
#ifndef PGSSL_PUMP_PEERS_H
#define PGSSL_PUMP_PEERS_H

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "pump_world.h"

enum { RECORD_MAX = 16384, HEAD = 3, TOY_ROOM = 65536 };

enum speech { PLAIN, TOY, OPENSSL };
enum ending {
	SHUTS,  /* ends its direction when it has sent everything, and goes on reading */
	CLOSES, /* the same, and closes when it has read the end, or at once */
	RESETS, /* after some bytes */
	STAYS,
};

struct peer {
	struct link *link;
	enum speech speech;
	enum ending ending;
	bool awaits_end; /* ends only after it has read the other's end */
	bool reads;      /* false: it has stopped for good */
	bool notifies;   /* close_notify, before it ends */
	size_t total, made, received;
	size_t ends_at; /* RESETS: when so much has been made and received */
	bool got_end, ended, gone;
	int64_t wakes;
	struct queue staged; /* encoded, and not yet in the link */
	struct queue inbox;  /* TOY: half a record */
	bool half_update;    /* TOY: the second record must follow */
	SSL *ssl;
	BIO *from_wire, *to_wire;
};

static struct peer peers[2]; /* the client and the backend */

/* Byte number `at` that this peer sends. */
static inline unsigned char byte_at(const struct peer *p, size_t at)
{
	return (unsigned char)(((at * 0x9e3779b1U) >> 13) + (p == peers ? 0 : 101));
}

/* ---- what it receives ---- */

static inline void take_plain(struct peer *p, const unsigned char *bytes, size_t n)
{
	const struct peer *from = p == peers ? peers + 1 : peers;

	for (size_t i = 0; i < n; i++, p->received++)
		if (p->received >= from->made || bytes[i] != byte_at(from, p->received))
			broken("byte %zu from the %s is wrong", p->received,
			       from == peers ? "client" : "backend");
}

static inline void decode_toy(struct peer *p)
{
	struct queue *q = &p->inbox;

	while (q->len >= HEAD) {
		const unsigned char *head = q->bytes + q->at;
		size_t n = (size_t)head[1] << 8 | head[2];
		if (q->len < HEAD + n)
			return;
		if (head[0] == 'D')
			take_plain(p, head + HEAD, n);
		else if (head[0] == 'C')
			p->got_end = true;
		else if (head[0] != 'A')
			broken("a record of type %d", head[0]);
		queue_drop(q, HEAD + n);
	}
}

static inline void flush_openssl(struct peer *p)
{
	unsigned char bytes[4096];
	int n;

	while ((n = BIO_read(p->to_wire, bytes, sizeof bytes)) > 0)
		queue_put(&p->staged, bytes, (size_t)n);
}

static inline void decode_openssl(struct peer *p)
{
	unsigned char bytes[RECORD_MAX];
	int n;

	ERR_clear_error();
	while ((n = SSL_read(p->ssl, bytes, sizeof bytes)) > 0)
		take_plain(p, bytes, (size_t)n);
	int error = SSL_get_error(p->ssl, n);
	if (error == SSL_ERROR_ZERO_RETURN)
		p->got_end = true;
	else if (error != SSL_ERROR_WANT_READ)
		broken("OpenSSL's peer failed: error %d", error);
	flush_openssl(p);
}

static inline bool peer_reads(struct peer *p)
{
	struct queue *q = &p->link->out;
	size_t n = q->len > 0 ? size_up_to(q->len) : 0;

	if (q->len == 0 && (!q->fin || p->got_end))
		return false;
	p->got_end |= q->len == 0;
	const unsigned char *bytes = q->bytes + q->at;
	if (p->speech == PLAIN) {
		take_plain(p, bytes, n);
	} else if (p->speech == TOY) {
		queue_put(&p->inbox, bytes, n);
		decode_toy(p);
	} else if (n > 0) {
		BIO_write(p->from_wire, bytes, (int)n);
		decode_openssl(p);
	}
	queue_drop(q, n);
	return true;
}

/* ---- what it sends ---- */

static inline void put_record(struct queue *q, char type, const void *body, size_t n)
{
	unsigned char head[HEAD] = {(unsigned char)type, (unsigned char)(n >> 8), (unsigned char)n};

	queue_put(q, head, HEAD);
	queue_put(q, body, n);
}

static inline void encode_data(struct peer *p)
{
	unsigned char bytes[RECORD_MAX];
	size_t left = p->total - p->made, n = size_up_to(left < RECORD_MAX ? left : RECORD_MAX);

	for (size_t i = 0; i < n; i++)
		bytes[i] = byte_at(p, p->made + i);
	p->made += n;
	if (p->speech == PLAIN)
		queue_put(&p->staged, bytes, n);
	else if (p->speech == TOY)
		put_record(&p->staged, 'D', bytes, n);
	else if (SSL_write(p->ssl, bytes, (int)n) != (int)n)
		broken("OpenSSL's peer could not write");
}

static inline void encode_key_update(struct peer *p)
{
	if (p->speech == TOY) {
		put_record(&p->staged, p->half_update ? 'L' : 'K', "", 0);
		p->half_update = !p->half_update;
	} else if (p->speech == OPENSSL) {
		(void)SSL_key_update(p->ssl, one_in(2) ? SSL_KEY_UPDATE_REQUESTED
						       : SSL_KEY_UPDATE_NOT_REQUESTED);
		(void)SSL_do_handshake(p->ssl);
	}
}

static inline bool peer_sends(struct peer *p)
{
	struct queue *to = &p->link->in;

	if (p->ended || p->gone)
		return false;
	if (p->speech == OPENSSL && SSL_in_init(p->ssl))
		;
	else if (p->staged.len == 0 && (p->half_update || (p->made < p->total && one_in(12))))
		encode_key_update(p);
	else if (p->staged.len == 0 && p->made < p->total)
		encode_data(p);
	if (p->speech == OPENSSL)
		flush_openssl(p);
	size_t n = queue_free(to) < p->staged.len ? queue_free(to) : p->staged.len;
	if (n == 0)
		return false;
	n = size_up_to(n);
	queue_put(to, p->staged.bytes + p->staged.at, n);
	queue_drop(&p->staged, n);
	return true;
}

/* ---- how it ends ---- */

static inline void peer_notifies(struct peer *p)
{
	p->notifies = false;
	if (p->speech == TOY)
		put_record(&p->staged, 'C', "", 0);
	else if (p->speech == OPENSSL)
		(void)SSL_shutdown(p->ssl);
	if (p->speech == OPENSSL)
		flush_openssl(p);
}

/* A reset: Linux may or may not give the pump what came before it. */
static inline void peer_breaks(struct peer *p)
{
	p->gone = true;
	if (p->link->kind != LINK_TCP) {
		p->link->gone = p->link->in.fin = true;
		return;
	}
	p->link->reset = true;
	if (one_in(2))
		queue_drop(&p->link->in, p->link->in.len);
	queue_drop(&p->link->out, p->link->out.len);
}

/* close(): TCP resets the connection if something was not read. */
static inline void peer_closes(struct peer *p)
{
	if (p->link->kind == LINK_TCP && p->link->out.len > 0) {
		peer_breaks(p);
		return;
	}
	p->gone = true;
	p->link->gone = p->link->in.fin = true;
}

static inline bool peer_ends(struct peer *p)
{
	if (!relaying)
		return false;
	if (p->ending == RESETS && p->made + p->received >= p->ends_at && !p->gone) {
		peer_breaks(p);
		return true;
	}
	if (p->ended && p->ending == CLOSES && (p->got_end || !p->reads) && !p->gone) {
		peer_closes(p);
		return true;
	}
	if (p->ended || p->gone || p->ending == STAYS || p->ending == RESETS ||
	    p->made < p->total || p->half_update || (p->awaits_end && !p->got_end))
		return false;
	if (p->notifies)
		peer_notifies(p);
	if (p->staged.len > 0)
		return false;
	p->link->in.fin = p->ended = true;
	return true;
}

static inline bool peer_acts(struct peer *p)
{
	if (p->gone || now_ms < p->wakes)
		return false;
	if (one_in(100)) {
		p->wakes = now_ms + (int64_t)size_up_to(3000);
		return true;
	}
	bool reads_first = one_in(2);
	bool reads = p->reads || !relaying;
	return (reads_first && reads && peer_reads(p)) || peer_sends(p) ||
	       (!reads_first && reads && peer_reads(p)) || peer_ends(p);
}

static bool world_act(void)
{
	unsigned first = chance() % 2;

	return peer_acts(&peers[first]) || peer_acts(&peers[1 - first]);
}

static int64_t world_wakes(void)
{
	int64_t next = INT64_MAX;

	for (unsigned i = 0; i < 2; i++)
		if (!peers[i].gone && peers[i].wakes > now_ms && peers[i].wakes < next)
			next = peers[i].wakes;
	return next;
}

/* ---- the toy's side in pgssl ---- */

struct toy {
	struct stream stream; /* first */
	struct stream *raw;
	struct queue in, plain, out;
	bool half_update, must_answer, end, end_sent;
};

static inline enum io_status toy_flush(struct toy *t)
{
	while (t->out.len > 0) {
		size_t n = 0;
		enum io_status io =
		    t->raw->verbs->write(t->raw, t->out.bytes + t->out.at, t->out.len, &n);
		if (io != IO_DONE)
			return io;
		queue_drop(&t->out, n);
	}
	t->must_answer = false;
	return IO_DONE;
}

/* Take one record; false if there is not a whole one. */
static inline bool toy_take(struct toy *t)
{
	const unsigned char *head = t->in.bytes + t->in.at;
	size_t n = t->in.len < HEAD ? 0 : (size_t)head[1] << 8 | head[2];

	if (t->in.len < HEAD || t->in.len < HEAD + n)
		return false;
	if (head[0] == 'D')
		queue_put(&t->plain, head + HEAD, n);
	t->end |= head[0] == 'C';
	t->half_update = head[0] == 'K';
	t->must_answer |= head[0] == 'L';
	if (head[0] == 'L')
		put_record(&t->out, 'A', "", 0);
	queue_drop(&t->in, HEAD + n);
	return true;
}

static inline enum io_status toy_read(struct stream *s, void *buf, size_t size, size_t *got)
{
	struct toy *t = (struct toy *)s;
	unsigned char bytes[5000];

	while (t->plain.len == 0) {
		enum io_status io = t->must_answer ? toy_flush(t) : IO_DONE;
		size_t n = 0;
		if (io != IO_DONE)
			return io;
		if (t->end)
			return IO_END;
		if (toy_take(t))
			continue;
		io = t->raw->verbs->read(t->raw, bytes, size_up_to(sizeof bytes), &n);
		if (io != IO_DONE)
			return io;
		queue_put(&t->in, bytes, n);
	}
	*got = t->plain.len < size ? t->plain.len : size;
	memcpy(buf, t->plain.bytes + t->plain.at, *got);
	queue_drop(&t->plain, *got);
	progress++;
	return IO_DONE;
}

static inline enum io_status toy_write(struct stream *s, const void *buf, size_t size, size_t *put)
{
	struct toy *t = (struct toy *)s;
	enum io_status io = toy_flush(t);

	*put = 0;
	if (io != IO_DONE || size == 0)
		return io;
	if (t->half_update)
		return IO_WANT_READ;
	for (size_t n; *put < size && t->out.len < TOY_ROOM; *put += n) {
		n = size_up_to(size - *put < RECORD_MAX ? size - *put : RECORD_MAX);
		put_record(&t->out, 'D', (const unsigned char *)buf + *put, n);
	}
	progress++;
	io = toy_flush(t);
	return io == IO_WANT_WRITE ? IO_DONE : io;
}

static inline unsigned toy_pending(struct stream *s)
{
	struct toy *t = (struct toy *)s;

	return (t->plain.len > 0 ? STREAM_READABLE : 0u) | (t->out.len > 0 ? STREAM_UNSENT : 0u);
}

static inline enum io_status toy_shut(struct stream *s)
{
	struct toy *t = (struct toy *)s;

	if (!t->end_sent) {
		t->end_sent = true;
		put_record(&t->out, 'C', "", 0);
		progress++;
	}
	return toy_flush(t);
}

static const struct stream_verbs toy_verbs = {toy_read, toy_write, toy_pending, toy_shut};

#endif
