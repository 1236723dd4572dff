/*
 * ic_udpifc.c
 *		In the shape of Greenplum 5's file of that name. The code is the tests' own.
 */
#include "postgres.h"

#include "libpq/libpq-be.h"
#include "postmaster/postmaster.h"
#include "cdb/cdbvars.h"

#include "interconnect.h"

static void setXmitSocketOptions(int txfd);
static void setupUDPListeningSocket(int *listenerSocketFd, uint16 *listenerPort, int *txFamily);

static void
setupUDPListeningSocket(int *listenerSocketFd, uint16 *listenerPort, int *txFamily)
{
	int			family = AF_UNSPEC;
	int			port = 0;
	int			fd;

#ifdef USE_ASSERT_CHECKING
	if (gp_udpic_network_disable_ipv6)
		family = AF_INET;
#endif

	fd = bind_any_port(SOCK_DGRAM, family, NULL, &port);
	if (fd < 0)
		ereport(ERROR,
				(errcode(ERRCODE_GP_INTERCONNECTION_ERROR),
				 errmsg("interconnect error: Could not set up udp listener socket"),
				 errdetail("%s: %m", "bind")));

	*listenerSocketFd = fd;
	*listenerPort = port;
	*txFamily = family_of(fd);

	setXmitSocketOptions(fd);
}

void
InitMotionUDPIFC(int *listenerSocketFd, uint16 *listenerPort, int *txFamily)
{
	setupUDPListeningSocket(listenerSocketFd, listenerPort, txFamily);
}

static void
setXmitSocketOptions(int txfd)
{
	xmit_options_set_on = txfd;
}
