/*
 * ic_tcp.c
 *		In the shape of Greenplum 5's file of that name. The code is the tests' own.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "libpq/libpq-be.h"
#include "cdb/cdbvars.h"

#include <netdb.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "interconnect.h"

int			listenerBacklog = 128;

static void setupOutgoingConnection(ChunkTransportState *transportStates,
						MotionConn *conn);

/* Its name in a comment: setupTCPListeningSocket(). */
static void
setupTCPListeningSocket(int backlog, int *listenerSocketFd, uint16 *listenerPort)
{
	int			port = 0;
	int			fd;
	char		myname[128];
	const char *localname = NULL;

	if (Gp_role != GP_ROLE_DISPATCH)
		localname = name_of(&MyProcPort->laddr, myname, sizeof(myname));

	*listenerSocketFd = -1;
	*listenerPort = 0;

	fd = bind_any_port(SOCK_STREAM, AF_UNSPEC, localname, &port);
	if (fd < 0 || listen(fd, backlog) < 0)
	{
		ereport(ERROR,
				(errcode(ERRCODE_GP_INTERCONNECTION_ERROR),
				 errmsg("interconnect Error: Could not set up tcp listener socket"),
				 errdetail("%s: %m", fd < 0 ? "bind" : "listen")));
	}

	*listenerSocketFd = fd;
	*listenerPort = port;
}								/* setupListeningSocket */

void
InitMotionTCP(int *listenerSocketFd, uint16 *listenerPort)
{
	setupTCPListeningSocket(listenerBacklog, listenerSocketFd, listenerPort);
}

static void
connectTo(MotionConn *conn)
{
	struct sockaddr_in addr = {AF_INET, htons(conn->cdbProc->listenerPort)};

	inet_pton(AF_INET, conn->cdbProc->listenerAddr, &addr.sin_addr);
	connect(conn->sockfd, (struct sockaddr *) &addr, sizeof(addr));
}

static void
setupOutgoingConnection(ChunkTransportState *transportStates, MotionConn *conn)
{
	if (transportStates->ready)
		return;

	conn->sockfd = socket(AF_INET, SOCK_STREAM, 0);
	if (conn->sockfd < 0)
		ereport(ERROR,
				(errcode(ERRCODE_GP_INTERCONNECTION_ERROR),
				 errmsg("no socket; with \");\" in its text"),
				 errdetail("%s: %m", "socket")));

	connectTo(conn);
}								/* setupOutgoingConnection */

void
SetupTCPInterconnect(ChunkTransportState *transportStates, MotionConn *conn)
{
	setupOutgoingConnection(transportStates, conn);
}
