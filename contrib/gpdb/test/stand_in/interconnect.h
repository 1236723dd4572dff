/*
 * interconnect.h
 *		What the trees' interconnect files share in the tests, and the way
 *		into their static functions.
 */
#ifndef INTERCONNECT_H
#define INTERCONNECT_H

typedef struct MotionConn
{
	int			sockfd;
	const char *listenerAddr;
	ListenerPort listenerPort;
} MotionConn;

typedef struct ChunkTransportState
{
	int			failed;			/* connections that will be retried */
} ChunkTransportState;

extern void InitMotionTCP(int *listenerSocketFd, ListenerPort *listenerPort);
extern void InitMotionUDPIFC(int *listenerSocketFd, ListenerPort *listenerPort,
							 int *txFamily);
extern void SetupTCPInterconnect(ChunkTransportState *transportStates,
								 MotionConn *conn);

#endif							/* INTERCONNECT_H */
