/*
 * model.h
 *		A model of a kernel, between the library and the real one.
 *
 * The linker replaces the library's system calls (--wrap). The model answers
 * them: which ports it picks and refuses, what /proc and netlink say. The
 * rest goes to the real kernel, so that the sockets are real. Each call is
 * recorded, and any can be made to fail; so can the allocation of memory. The
 * clock is the model's.
 *
 * A program that uses it lists in the Makefile what model.c wraps.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "test.h"

/* The range of the ports, as /proc has it, and as the kernel picks from it. */
#define RANGE_MIN 40000
#define RANGE_MAX 40199
#define RANGE_PORTS (RANGE_MAX - RANGE_MIN + 1)

/* Of linux/in.h since 6.3. */
#define MODEL_IP_LOCAL_PORT_RANGE 51

/* What the model's census has, over netlink and in /proc/net. */
#define CENSUS_LISTENING 1
#define CENSUS_TIME_WAIT 1
#define CENSUS_SECONDS 30

/*
 * What close() and free() leave in errno, to see that errno is set after
 * them.
 */
#define POISON ELOOP

typedef enum CallKind
{
	SOCKET,
	SETSOCKOPT,
	GETSOCKOPT,
	BIND,
	LISTEN,
	GETSOCKNAME,
	OPEN,
	READ,
	MMAP,
	MUNMAP,
	NETLINK,					/* socket(AF_NETLINK) */
	SEND,
	RECV,
	CLOSE,
	CALL_KINDS
} CallKind;

extern const char *const call_names[CALL_KINDS];

/* What a host is like. Zeros: a quiet host of today, with the range above. */
typedef struct Host
{
	const char *range;			/* NULL: see above */
	const char *reserved;		/* NULL: none */
	bool		no_windows;		/* IP_LOCAL_PORT_RANGE: before Linux 6.3 */
	bool		no_ipv6;		/* socket(AF_INET6) is refused */
	bool		ipv6_only;		/* net.ipv6.bindv6only */
	bool		keeps_only_v6;	/* IPV6_V6ONLY may not be set */
	bool		no_proc;
	bool		no_netlink;
	bool		nothing_free;	/* bind() without SO_REUSEADDR is refused */
	bool		full;			/* every bind() is refused */
	bool		forbids_port_0; /* to bind() to */
	bool		no_such_address;	/* the same, and EADDRNOTAVAIL says why */
	bool		slow;			/* bind() to port 0 takes two milliseconds */
	bool		picks_elsewhere;	/* bind() to port 0 gives a port of no range */
	int			names_forbidden;	/* the first ports that are named */
	bool		forbids_late;	/* and leaves the socket bound: 5.10 to 5.16 */
	bool		renames;		/* a port that is named becomes another one */
	bool		one_descriptor; /* is free */
	int			listens_lost;	/* the first listens */
} Host;

/* One call of the library into the kernel. */
typedef struct Recorded
{
	CallKind	kind;
	char		letter;			/* see path_taken() */
	int			occurrence;		/* among its kind, from 1 */
	int			family;
	int			port;			/* bind() */
	int			option;			/* setsockopt() and getsockopt() */
	bool		reusable;		/* bind(): with SO_REUSEADDR */
	bool		after_refusal;	/* of a bind(), right before */
	bool		of_reserved;	/* open() and read(): the reserved ports */
	bool		of_ipv6;		/* open() and read(): the IPv6 sockets */
	bool		of_socket;		/* close() */
} Recorded;

/* What became of a port. */
typedef enum Fate
{
	NOT_ASKED,
	GIVEN,
	IN_USE,
	FORBIDDEN
} Fate;

/* What is to happen, and what has happened, while `active`. */
typedef struct Model
{
	bool		active;
	Host		host;

	/* The fault. */
	CallKind	kind;
	int			occurrence;		/* 0: no fault */
	bool		for_ever;
	int			error;

	/* A rival that listens between our bind() and our listen(). */
	int			rivals_wanted;
	int			rivals[256];
	int			rival_count;

	const char *hidden_range;	/* what /proc says instead */
	const char *hidden_list;
	bool		no_memory;
	bool		forge_port_0;	/* in getsockname() */
	int			late_answers;	/* recv() takes a second each */
	const char *garbage;		/* what recv() gives instead */
	int			garbage_length;

	/* What was counted. */
	int			allocations;
	int			mapped;			/* mmap() without munmap() */
	int			held;			/* descriptors */
	int			lent;			/* times that /proc had no room */
	int			counts[CALL_KINDS];

	/* In the family of the last socket(). */
	int			family;
	int			listens_lost;
	int			named;			/* different ports */
	int			in_use;
	int			forbidden;
	int			window_ports;	/* in windows without a port for us */
	bool		searched;		/* a window, and nothing was read since */
	int			shared_one;		/* the name that is asked for then */
	int			picks_in_use;	/* bind() to port 0, without a window */
	int			picks_forbidden;
	Recorded	last_given;		/* the last bind() that was not refused */
	int			last_window;	/* its socket's window: ports, or 0 */

	/* Not cleared, but for what has been used. */
	int			recorded_count;
	Recorded	recorded[8192];
	uint8_t		fates[65536];	/* of the first answer to each name */
	int			names[65536];
} Model;

extern Model model;

/* From now on the model is that of this host; with NULL, of a quiet one. */
extern void model_host(const Host *host);

/* The named calls of that kind fail from now on. */
extern void model_fault(CallKind kind, int occurrence, bool for_ever,
						int error);

/* Clears the counts, and lets the model answer; stops it. */
extern void model_begin(void);
extern void model_end(void);

/* The ends of the host's range, and whether a port is reserved. */
extern void model_range(int *min, int *max);
extern bool model_reserves(int port);

/*
 * What was called, one letter for each call; repetitions as in "(wb)7".
 *
 *	S socket	v setsockopt(IPV6_V6ONLY)			o open		N netlink
 *	b bind to 0	w setsockopt(IP_LOCAL_PORT_RANGE)	i read		t send
 *	B bind		r setsockopt(SO_REUSEADDR)			m mmap		c recv
 *	l listen	g getsockname	G getsockopt		u munmap	x close
 */
extern const char *path_taken(void);

/* Whether two such texts mean the same. */
extern bool same_path(const char *one, const char *other);

/* Calls of that kind in a family. */
extern int	calls_of(CallKind kind, int family);

#endif							/* MODEL_H */
