/* libpq/libpq-be.h, for the tests. */
#ifndef LIBPQ_BE_H
#define LIBPQ_BE_H

typedef struct SockAddr
{
	struct sockaddr_storage addr;
	socklen_t	salen;
} SockAddr;

typedef struct Port
{
	SockAddr	laddr;
} Port;

#endif							/* LIBPQ_BE_H */
