/*
 * calls.h
 *		Calls of the library, and what they gave in one place.
 */
#ifndef CALLS_H
#define CALLS_H

#include "ic_listener.h"
#include "sockets.h"

/* What no call returns, to see what has been written. */
#define UNTOUCHED 424242

/* What one call gave. */
typedef struct Call
{
	int			returned;
	int			error;			/* errno */
	int			port;
	int			fd;
	IcListenerReport report;
} Call;

typedef struct Kind
{
	const char *name;
	int			type;
	int			(*open) (const IcListenerOptions *options, int *port, int *fd,
						 IcListenerReport *report);
} Kind;

extern const Kind tcp;
extern const Kind udp;
extern const Kind *const kinds[2];

#define for_each_kind(kind) \
	for (const Kind *kind = &tcp; kind != NULL; kind = kind == &tcp ? &udp : NULL)

extern Call open_socket(const Kind *kind, const IcListenerOptions *options);
extern Call open_listener(const IcListenerOptions *options);

extern Call require_listener(const IcListenerOptions *options);

/* The call has failed with that errno and reset its outputs. */
extern void expect_failed(const Call *call, int error);

/* A call that must work, checked against what is promised of every socket. */
extern Call opens(const Kind *kind, const IcListenerOptions *options);

/*
 * A call that must fail in that way, with and without a report, and leave
 * nothing open. The message must contain the text.
 */
extern IcListenerReport refused(const Kind *kind,
								const IcListenerOptions *options, int error,
								IcListenerStep step, const char *message);

/*
 * Opens sockets, and leaves them open, until the call fails with EADDRINUSE.
 * Each port must come once only. Returns how many there were; *taken has
 * their ports, *last is the call that failed.
 */
extern int	take_all_ports(const Kind *kind, const IcListenerOptions *options,
						   Ports *taken, Call *last);

#endif							/* CALLS_H */
