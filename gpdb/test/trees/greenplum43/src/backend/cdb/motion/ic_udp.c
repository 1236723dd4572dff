/*
 * ic_udp.c
 *		In the shape of Greenplum 4.3's file of that name: an interconnect
 *		without flow control, which apply leaves alone. The code is the tests'
 *		own.
 */

#include "postgres.h"

#include <sys/socket.h>

#include "interconnect.h"

extern void InitMotionUDP(int *listenerSocketFd, uint16 *listenerPort);

static void
setupUDPListeningSocket(int *listenerSocketFd, uint16 *listenerPort)
{
	int			port;

	*listenerSocketFd = bind_any_port(SOCK_DGRAM, AF_UNSPEC, NULL, &port);
	*listenerPort = port;
}

void
InitMotionUDP(int *listenerSocketFd, uint16 *listenerPort)
{
	setupUDPListeningSocket(listenerSocketFd, listenerPort);
}
