/*
 * contenders.c
 *		What ic_listener is measured against, and how it is called itself.
 *
 * Every contender is an int (*)(int *port, int *fd): 0 and a socket, or not 0
 * and errno.  setup_listener() is one as it stands, and is called without anything
 * in between.
 */
#include <errno.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "greenplum.h"
#include "ic_listener.h"

#define BACKLOG 128
#define UNICAST "127.0.0.1"

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

int
bench_stock(int *port, int *fd)
{
	const char *step;

	return greenplum_socket(NULL, SOCK_STREAM, port, fd, &step);
}

int
bench_stock_unicast(int *port, int *fd)
{
	const char *step;

	return greenplum_socket(UNICAST, SOCK_STREAM, port, fd, &step);
}

int
bench_stock_udp(int *port, int *fd)
{
	const char *step;

	return greenplum_socket(NULL, SOCK_DGRAM, port, fd, &step);
}

int
bench_so_reuseaddr(int *port, int *fd)
{
	const char *step;

	return so_reuseaddr_listener(port, fd, &step);
}

/* A socket for the IPv6 wildcard that takes IPv4, too. */
static int
wildcard_socket(int socktype)
{
	int			off = 0;
	int			sock = socket(AF_INET6, socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (sock >= 0 &&
		setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
		return close_and_fail(sock);
	return sock;
}

/*
 * The fewest system calls that give a socket such as setup_listener() promises
 * (non-blocking, close-on-exec, both families, TIME_WAITs reusable), when
 * the caller knows which port is free.
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
			return close_and_fail(sock);
	}
	else
	{
		any4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		if (bind(sock, (struct sockaddr *) &any4, sizeof(any4)) < 0)
			return close_and_fail(sock);
	}
	if (socktype == SOCK_STREAM &&
		(listen(sock, BACKLOG) < 0 ||
		 setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0))
		return close_and_fail(sock);
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
 * The same, on a port that the kernel picks: what lies between this and
 * setup_listener() is the choice of the port, and between this and Greenplum's
 * C it is getaddrinfo(), most of all.
 */
int
bench_bind_0(int *port, int *fd)
{
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
	int			on = 1;
	int			sock;

	*port = 0;
	*fd = -1;
	sock = wildcard_socket(SOCK_STREAM);
	if (sock < 0)
		return -1;
	if (bind(sock, (struct sockaddr *) &any6, sizeof(any6)) < 0 ||
		listen(sock, BACKLOG) < 0 ||
		setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		bound_port(sock, port) < 0)
		return close_and_fail(sock);
	*fd = sock;
	return 0;
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
		return close_and_fail(sock);
	for (int each = port_min; each <= port_max; each++)
	{
		any6.sin6_port = htons(each);
		if (bind(sock, (struct sockaddr *) &any6, sizeof(any6)) == 0)
		{
			if (listen(sock, BACKLOG) < 0)
				return close_and_fail(sock);
			*port = each;
			*fd = sock;
			return 0;
		}
	}
	return close_and_fail(sock);
}

/*
 * Is refused, and allocates: the address is quoted in the error. To see that
 * the allocations of the static library are counted.
 */
int
bench_ic_listener_allocates(int *port, int *fd)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = "no address";
	return ic_listener_open_tcp(&options, port, fd, NULL);
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

/*
 * connect() to a server on the loopback address. What is closed is reset, so
 * that the calls leave no TIME_WAIT for the next one.
 */
static struct sockaddr_in server = {.sin_family = AF_INET};

void
bench_set_server_port(int port)
{
	server.sin_port = htons(port);
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

static int
outgoing_socket(void)
{
	struct linger reset = {1, 0};
	int			sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock >= 0)
		setsockopt(sock, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	return sock;
}

static int
give_if_connected(int failed, int sock, int *port, int *fd)
{
	if (failed)
	{
		int			saved_errno = errno;

		close(sock);
		errno = saved_errno;
		return -1;
	}
	*port = 0;
	*fd = sock;
	return 0;
}

int
bench_connect(int *port, int *fd)
{
	int			sock = outgoing_socket();

	return give_if_connected(connect(sock, (struct sockaddr *) &server,
									 sizeof(server)), sock, port, fd);
}

int
bench_connect_so_reuseaddr(int *port, int *fd)
{
	int			sock = outgoing_socket();
	int			on = 1;

	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return give_if_connected(connect(sock, (struct sockaddr *) &server,
									 sizeof(server)), sock, port, fd);
}

int
bench_connect_ic_listener(int *port, int *fd)
{
	int			sock = outgoing_socket();

	return give_if_connected(ic_listener_connect(sock,
												 (struct sockaddr *) &server,
												 sizeof(server), NULL),
							 sock, port, fd);
}
