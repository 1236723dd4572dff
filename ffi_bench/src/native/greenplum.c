/*
 * greenplum.c
 *		See greenplum.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "greenplum.h"

#define BACKLOG 128

/* How often the proposed fix starts again when listen() lost its port. */
#define LISTEN_TRIES 10

/* greenplum_steps(): another socket listened first on the port. */
#define LISTEN_LOST (-2)

int
close_and_fail(int sock)
{
	int			saved = errno;

	close(sock);
	errno = saved;
	return -1;
}

int
bound_port(int sock, int *port)
{
	struct sockaddr_storage bound;
	socklen_t	size = sizeof(bound);

	if (getsockname(sock, (struct sockaddr *) &bound, &size) < 0)
		return -1;
	if (bound.ss_family == AF_INET6)
		*port = ntohs(((struct sockaddr_in6 *) &bound)->sin6_port);
	else
		*port = ntohs(((struct sockaddr_in *) &bound)->sin_port);
	return 0;
}

/*
 * A socket of the first family that can be bound, IPv6 before IPv4.
 */
static int
bind_first(const struct addrinfo *candidates, bool reuse, const char **step)
{
	static const int families[] = {AF_INET6, AF_INET};
	int			on = 1;

	for (int i = 0; i < 2; i++)
	{
		for (const struct addrinfo *one = candidates; one; one = one->ai_next)
		{
			int			sock;

			if (one->ai_family != families[i])
				continue;
			*step = "socket";
			sock = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
			if (sock < 0)
				continue;
			*step = "setsockopt";
			if (reuse &&
				setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
				return close_and_fail(sock);
			*step = "bind";
			if (bind(sock, one->ai_addr, one->ai_addrlen) == 0)
				return sock;
			close_and_fail(sock);
		}
	}
	return -1;
}

/*
 * The steps of Greenplum's setupTCPListeningSocket() and
 * setupUDPListeningSocket(), as Greenplum 6 and 7 have them: their
 * pg_set_noblock() asks for the flags before it sets O_NONBLOCK.  (That of 4.3,
 * 5 and HAWQ does not.)
 */
static int
greenplum_steps(const char *address, int socktype, bool reuse,
				int *port, int *fd, const char **step)
{
	struct addrinfo hints;
	struct addrinfo *candidates;
	int			sock;
	int			flags;

	*port = 0;
	*fd = -1;
	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = socktype;
	hints.ai_flags = address ? AI_NUMERICHOST : AI_PASSIVE;
	*step = "getaddrinfo";
	if (getaddrinfo(address, "0", &hints, &candidates) != 0)
	{
		errno = EADDRNOTAVAIL;
		return -1;
	}
	sock = bind_first(candidates, reuse, step);
	if (sock < 0)
	{
		int			saved = errno;

		freeaddrinfo(candidates);
		errno = saved;
		return -1;
	}
	freeaddrinfo(candidates);
	*step = "fcntl(O_NONBLOCK)";
	flags = fcntl(sock, F_GETFL);
	if (flags < 0 || fcntl(sock, F_SETFL, flags | O_NONBLOCK) < 0)
		return close_and_fail(sock);
	*step = "listen";
	if (socktype == SOCK_STREAM && listen(sock, BACKLOG) < 0)
	{
		close_and_fail(sock);
		return errno == EADDRINUSE ? LISTEN_LOST : -1;
	}
	*step = "getsockname";
	if (bound_port(sock, port) < 0)
		return close_and_fail(sock);
	*fd = sock;
	return 0;
}

int
greenplum_socket(const char *address, int type, int *port, int *fd,
				 const char **step)
{
	return greenplum_steps(address, type, false, port, fd, step) == 0 ? 0 : -1;
}

int
so_reuseaddr_listener(int *port, int *fd, const char **step)
{
	int			outcome = LISTEN_LOST;

	for (int i = 0; i < LISTEN_TRIES && outcome == LISTEN_LOST; i++)
		outcome = greenplum_steps(NULL, SOCK_STREAM, true, port, fd, step);
	return outcome == 0 ? 0 : -1;
}
