/*
 * ic_udpifc.c
 *		The head of Greenplum 6's file of that name; ic_udpifc.body follows.
 */
#include "postgres.h"

#include "cdb/ml_ipc.h"
#include "cdb/cdbvars.h"

#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>

static int
bindUDPSocket(int fd, const struct sockaddr_storage *address)
{
	return bind(fd, (const struct sockaddr *) address, sizeof(*address));
}

