/*
 * cdb/ml_ipc.h
 *		For the tests: what the interconnect's files share, and the way into
 *		their static functions.
 */
#ifndef ML_IPC_H
#define ML_IPC_H

typedef uint16 ListenerPort;

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

#endif							/* ML_IPC_H */
