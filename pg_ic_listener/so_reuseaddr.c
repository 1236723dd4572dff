/*
 * so_reuseaddr.c
 *		SO_REUSEADDR before bind() to port 0, as gpdb pull request 8884
 *		proposed, and another try when listen() fails with EADDRINUSE, as its
 *		review asked for.  The other steps are those of Greenplum: IPv6 first,
 *		IPv4 when that cannot be bound.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "so_reuseaddr.h"

#define BACKLOG 128
#define LISTEN_TRIES 10

static int
bound_socket(int family, const char **step)
{
	struct sockaddr_storage address = {.ss_family = family};
	socklen_t	length = family == AF_INET6 ?
		sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	int			one = 1;
	int			save_errno;
	int			fd;

	*step = "socket";
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;

	*step = "setsockopt";
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0)
	{
		*step = "bind";
		if (bind(fd, (struct sockaddr *) &address, length) == 0)
			return fd;
	}
	save_errno = errno;
	close(fd);
	errno = save_errno;
	return -1;
}

int
so_reuseaddr_listener(int *port, int *fd, const char **step)
{
	int			tries;

	for (tries = 1;; tries++)
	{
		struct sockaddr_storage address;
		socklen_t	length = sizeof(address);
		int			save_errno;

		*fd = bound_socket(AF_INET6, step);
		if (*fd < 0)
			*fd = bound_socket(AF_INET, step);
		if (*fd < 0)
			return -1;

		*step = "listen";
		if (listen(*fd, BACKLOG) == 0)
		{
			*step = "getsockname";
			if (getsockname(*fd, (struct sockaddr *) &address, &length) == 0)
			{
				/* The port is at the same place in both families. */
				*port = ntohs(((struct sockaddr_in *) &address)->sin_port);
				return 0;
			}
			tries = LISTEN_TRIES;
		}
		save_errno = errno;
		close(*fd);
		*fd = -1;
		errno = save_errno;
		if (save_errno != EADDRINUSE || tries >= LISTEN_TRIES)
			return -1;
	}
}
