/*
 * contenders.c
 *		What ic_listener is measured against, and how it is called itself.
 *
 * Every contender is an int (*)(int *port, int *fd): 0 and a socket, or not 0
 * and errno.  setup_listener() is one as it stands, and is called without anything
 * in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ic_listener.h"

#define BACKLOG 128
#define UNICAST "127.0.0.1"

/* How often the proposed fix starts again when listen() lost its port. */
#define LISTEN_TRIES 10

/* greenplum_steps(): another socket was first to listen on the port. */
#define LISTEN_LOST (-2)

/* The port that the floor is told is free. */
static int	floor_port;

/* The ports that are bound one after the other. */
static int	port_min;
static int	port_max;

void
bench_set_floor_port(int port)
{
	floor_port = port;
}

void
bench_set_port_range(int min, int max)
{
	port_min = min;
	port_max = max;
}

/* Closes the socket and leaves errno as it is. */
static int
give_up(int sock)
{
	int			saved = errno;

	close(sock);
	errno = saved;
	return -1;
}

static int
port_of(int sock, int *port)
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
bind_first(const struct addrinfo *candidates, bool reuse)
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
			sock = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
			if (sock < 0)
				continue;
			if (reuse &&
				setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
				return give_up(sock);
			if (bind(sock, one->ai_addr, one->ai_addrlen) == 0)
				return sock;
			give_up(sock);
		}
	}
	return -1;
}

/*
 * The steps of Greenplum's setupTCPListeningSocket() and
 * setupUDPListeningSocket().  They set O_NONBLOCK with one fcntl() in some
 * trees and with two in others; here it is one.
 */
static int
greenplum_steps(const char *address, int socktype, bool reuse,
				int *port, int *fd)
{
	struct addrinfo hints;
	struct addrinfo *candidates;
	int			sock;

	*port = 0;
	*fd = -1;
	memset(&hints, 0, sizeof(hints));
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = socktype;
	hints.ai_flags = address ? AI_NUMERICHOST : AI_PASSIVE;
	if (getaddrinfo(address, "0", &hints, &candidates) != 0)
	{
		errno = EADDRNOTAVAIL;
		return -1;
	}
	sock = bind_first(candidates, reuse);
	if (sock < 0)
	{
		int			saved = errno;

		freeaddrinfo(candidates);
		errno = saved;
		return -1;
	}
	freeaddrinfo(candidates);
	if (fcntl(sock, F_SETFL, O_NONBLOCK) < 0)
		return give_up(sock);
	if (socktype == SOCK_STREAM && listen(sock, BACKLOG) < 0)
	{
		give_up(sock);
		return errno == EADDRINUSE ? LISTEN_LOST : -1;
	}
	if (port_of(sock, port) < 0)
		return give_up(sock);
	*fd = sock;
	return 0;
}

int
bench_stock(int *port, int *fd)
{
	return greenplum_steps(NULL, SOCK_STREAM, false, port, fd);
}

int
bench_stock_unicast(int *port, int *fd)
{
	return greenplum_steps(UNICAST, SOCK_STREAM, false, port, fd);
}

int
bench_stock_udp(int *port, int *fd)
{
	return greenplum_steps(NULL, SOCK_DGRAM, false, port, fd);
}

/*
 * The fix proposed in gpdb PR 8884 with what its review asked for: once more
 * from the start when another socket was first to listen.
 */
int
bench_so_reuseaddr(int *port, int *fd)
{
	int			outcome = LISTEN_LOST;

	for (int i = 0; i < LISTEN_TRIES && outcome == LISTEN_LOST; i++)
		outcome = greenplum_steps(NULL, SOCK_STREAM, true, port, fd);
	return outcome;
}

/* A socket for the IPv6 wildcard that takes IPv4, too. */
static int
wildcard_socket(int socktype)
{
	int			off = 0;
	int			sock = socket(AF_INET6, socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (sock >= 0 &&
		setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
		return give_up(sock);
	return sock;
}

/*
 * The fewest system calls that give a socket such as setup_listener() promises
 * (non-blocking, close-on-exec, both families, TIME_WAITs reusable), when
 * somebody says which port is free.
 */
static int
fewest_calls(int family, int socktype, int *port, int *fd)
{
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6,.sin6_port = htons(floor_port)};
	struct sockaddr_in any4 = {.sin_family = AF_INET,.sin_port = htons(floor_port)};
	int			on = 1;
	int			sock;

	*port = 0;
	*fd = -1;
	sock = family == AF_INET6 ? wildcard_socket(socktype) :
		socket(family, socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -1;
	if (family == AF_INET6)
	{
		if (bind(sock, (struct sockaddr *) &any6, sizeof(any6)) < 0)
			return give_up(sock);
	}
	else
	{
		any4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		if (bind(sock, (struct sockaddr *) &any4, sizeof(any4)) < 0)
			return give_up(sock);
	}
	if (socktype == SOCK_STREAM &&
		(listen(sock, BACKLOG) < 0 ||
		 setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0))
		return give_up(sock);
	*port = floor_port;
	*fd = sock;
	return 0;
}

int
bench_floor(int *port, int *fd)
{
	return fewest_calls(AF_INET6, SOCK_STREAM, port, fd);
}

int
bench_floor_unicast(int *port, int *fd)
{
	return fewest_calls(AF_INET, SOCK_STREAM, port, fd);
}

int
bench_floor_udp(int *port, int *fd)
{
	return fewest_calls(AF_INET6, SOCK_DGRAM, port, fd);
}

/*
 * What it takes at the least to know that no port can be listened on, where
 * listeners hold them all: to be refused each.
 */
int
bench_bind_each(int *port, int *fd)
{
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
	int			on = 1;
	int			sock;

	*port = 0;
	*fd = -1;
	sock = wildcard_socket(SOCK_STREAM);
	if (sock < 0)
		return -1;
	if (setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return give_up(sock);
	for (int each = port_min; each <= port_max; each++)
	{
		any6.sin6_port = htons(each);
		if (bind(sock, (struct sockaddr *) &any6, sizeof(any6)) == 0)
		{
			if (listen(sock, BACKLOG) < 0)
				return give_up(sock);
			*port = each;
			*fd = sock;
			return 0;
		}
	}
	return give_up(sock);
}

int
bench_ic_listener_unicast(int *port, int *fd)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = UNICAST;
	return ic_listener_open_tcp(&options, port, fd, NULL);
}

int
bench_ic_listener_udp(int *port, int *fd)
{
	return ic_listener_open_udp(NULL, port, fd, NULL);
}
