/*
 * interconnect.h
 *		What the trees' interconnect files share in the tests, and the way
 *		into their static functions.
 */
#ifndef INTERCONNECT_H
#define INTERCONNECT_H

#include "libpq/libpq-be.h"

/* Cloudberry's ports are wider. */
#ifdef PORT_IS_INT32
typedef int32 ListenerPort;
#else
typedef uint16 ListenerPort;
#endif

typedef struct CdbProcess
{
	const char *listenerAddr;
	ListenerPort listenerPort;
} CdbProcess;

typedef struct MotionConn
{
	int			sockfd;
	CdbProcess *cdbProc;
} MotionConn;

typedef struct ChunkTransportState
{
	bool		ready;
} ChunkTransportState;

extern void InitMotionTCP(int *listenerSocketFd, ListenerPort *listenerPort);
extern void InitMotionUDPIFC(int *listenerSocketFd, ListenerPort *listenerPort,
							 int *txFamily);
extern void SetupTCPInterconnect(ChunkTransportState *transportStates,
								 MotionConn *conn);

/*
 * For the trees' own functions: a socket of that type on a port that the
 * kernel picks, or -1 with errno set.
 */
extern int	bind_any_port(int type, int family, const char *address, int *port);

extern int	family_of(int fd);

/*
 * The numeric address of a session's connection, or NULL for a local one.
 */
extern const char *name_of(const SockAddr *laddr, char *name, size_t size);

/* For setXmitSocketOptions(): the socket it was called with last. */
extern int	xmit_options_set_on;

#endif							/* INTERCONNECT_H */
