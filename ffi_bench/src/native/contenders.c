/*
 * contenders.c
 *		What ic_listener is measured against, and how it is called itself.
 *
 * The contenders are listed at the end.  Each gives 0 and a socket, or not 0
 * and errno.  The address is NULL for the wildcard, or 127.0.0.1.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ic_listener.h"

#define BACKLOG 128

/* How often the proposed fix starts again when listen() lost its port. */
#define LISTEN_TRIES 10

/* greenplum_socket(): another socket listened first on the port. */
#define LISTEN_LOST (-2)

/* A free port outside the range, and the one to connect to (cases.rs). */
#define FLOOR_PORT 22000
#define SERVER_PORT 22500

/* A new namespace's ports. */
#define PORT_MIN 32768
#define PORT_MAX 60999

/*
 * What a postmaster has done before it forks the first backend, and of which
 * its backends profit: getaddrinfo() for listen_addresses, and for the address
 * of the statistics collector (pgstat_init() up to PostgreSQL 14).
 */
void
bench_start_as_a_postmaster(void)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE,.ai_family = AF_UNSPEC,.ai_socktype = SOCK_STREAM};
	struct addrinfo *addresses;

	if (getaddrinfo(NULL, "5432", &hints, &addresses) == 0)
		freeaddrinfo(addresses);
	if (getaddrinfo("localhost", NULL, &hints, &addresses) == 0)
		freeaddrinfo(addresses);
}

/* Leaves errno as it is. */
static int
close_and_fail(int sock)
{
	int			saved = errno;

	close(sock);
	errno = saved;
	return -1;
}

/* sin6_port has the same place. */
static int
bound_port(int sock, int *port)
{
	struct sockaddr_storage bound;
	socklen_t	size = sizeof(bound);

	if (getsockname(sock, (struct sockaddr *) &bound, &size) < 0)
		return -1;
	*port = ntohs(((struct sockaddr_in *) &bound)->sin_port);
	return 0;
}

/* A socket of the first family that can be bound, IPv6 before IPv4. */
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
				return close_and_fail(sock);
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
greenplum_socket(const char *address, int type, bool reuse, int *port, int *fd)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC,.ai_socktype = type,
	.ai_flags = address ? AI_NUMERICHOST : AI_PASSIVE};
	struct addrinfo *candidates;
	int			sock;
	int			flags;
	int			saved;

	if (getaddrinfo(address, "0", &hints, &candidates) != 0)
	{
		errno = EADDRNOTAVAIL;
		return -1;
	}
	sock = bind_first(candidates, reuse);
	saved = errno;
	freeaddrinfo(candidates);
	errno = saved;
	if (sock < 0)
		return -1;
	flags = fcntl(sock, F_GETFL);
	if (flags < 0 || fcntl(sock, F_SETFL, flags | O_NONBLOCK) < 0)
		return close_and_fail(sock);
	if (type == SOCK_STREAM && listen(sock, BACKLOG) < 0)
	{
		close_and_fail(sock);
		return errno == EADDRINUSE ? LISTEN_LOST : -1;
	}
	if (bound_port(sock, port) < 0)
		return close_and_fail(sock);
	*fd = sock;
	return 0;
}

/*
 * SO_REUSEADDR before bind() to port 0, as gpdb pull request 8884 proposed, and
 * once more from the start when another socket listened first, as its review
 * asked for.
 */
static int
so_reuseaddr_listener(int *port, int *fd)
{
	int			outcome = LISTEN_LOST;

	for (int i = 0; i < LISTEN_TRIES && outcome == LISTEN_LOST; i++)
		outcome = greenplum_socket(NULL, SOCK_STREAM, true, port, fd);
	return outcome;
}

/* A non-blocking socket; that of the wildcard is IPv6, and takes IPv4, too. */
static int
new_socket(const char *address, int type)
{
	int			off = 0;
	int			sock = socket(address ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (sock >= 0 && address == NULL &&
		setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
		return close_and_fail(sock);
	return sock;
}

static int
bind_to(int sock, const char *address, int port)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6,.sin6_port = htons(port)};
	struct sockaddr_in loopback = {.sin_family = AF_INET,.sin_port = htons(port)};

	if (address == NULL)
		return bind(sock, (struct sockaddr *) &any, sizeof(any));
	loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return bind(sock, (struct sockaddr *) &loopback, sizeof(loopback));
}

/*
 * The fewest system calls that give a socket such as setup_listener() promises
 * (non-blocking, close-on-exec, both families, TIME_WAITs reusable) on a known
 * port, or, 0, on one that the kernel picks.
 */
static int
fewest_calls(const char *address, int type, int wanted, int *port, int *fd)
{
	int			on = 1;
	int			sock = new_socket(address, type);

	*port = wanted;
	*fd = sock;
	if (sock < 0)
		return -1;
	if (bind_to(sock, address, wanted) < 0 ||
		(type == SOCK_STREAM &&
		 (listen(sock, BACKLOG) < 0 ||
		  setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)) ||
		(wanted == 0 && bound_port(sock, port) < 0))
		return close_and_fail(sock);
	return 0;
}

/*
 * What it takes at the least to know that no port can be listened on, where
 * listeners hold them all: to be refused each.
 */
static int
bind_each(const char *address, int *port, int *fd)
{
	int			on = 1;
	int			sock = new_socket(address, SOCK_STREAM);

	if (sock < 0)
		return -1;
	if (setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return close_and_fail(sock);
	for (*port = PORT_MIN; *port <= PORT_MAX; ++*port)
	{
		if (bind_to(sock, address, *port) == 0)
		{
			*fd = sock;
			return listen(sock, BACKLOG) == 0 ? 0 : close_and_fail(sock);
		}
	}
	return close_and_fail(sock);
}

static int
ic_listener(const char *address, IcListenerReport *report, int *port, int *fd)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = address;
	return ic_listener_open_tcp(&options, port, fd, report);
}

/*
 * A connection to a server on the loopback address: as "connects" makes it,
 * with SO_REUSEADDR or not, from a port that is named or not.
 */
static int
connection(int (*connects) (int, const struct sockaddr *, socklen_t),
		   int reuse, int from, int *port, int *fd)
{
	struct sockaddr_in server = {.sin_family = AF_INET,.sin_port = htons(SERVER_PORT)};
	int			sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	*port = from;
	*fd = sock;
	if (sock < 0)
		return -1;
	if ((reuse && setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) < 0) ||
		(from != 0 && bind_to(sock, "127.0.0.1", from) < 0) ||
		connects(sock, (struct sockaddr *) &server, sizeof(server)) < 0)
		return close_and_fail(sock);
	return 0;
}

static int
ic_connect(int sock, const struct sockaddr *address, socklen_t size)
{
	return ic_listener_connect(sock, address, size, NULL);
}

static int
ic_connect_report(int sock, const struct sockaddr *address, socklen_t size)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;

	return ic_listener_connect(sock, address, size, &report);
}

#define CONTENDER(name, call) \
	int \
	bench_##name(const char *address, int *port, int *fd) \
	{ \
		(void) address; \
		return call; \
	}

CONTENDER(stock, greenplum_socket(address, SOCK_STREAM, false, port, fd))
CONTENDER(stock_udp, greenplum_socket(address, SOCK_DGRAM, false, port, fd))
CONTENDER(so_reuseaddr, so_reuseaddr_listener(port, fd))
CONTENDER(bind_0, fewest_calls(address, SOCK_STREAM, 0, port, fd))
CONTENDER(bind_each, bind_each(address, port, fd))
CONTENDER(floor, fewest_calls(address, SOCK_STREAM, FLOOR_PORT, port, fd))
CONTENDER(floor_udp, fewest_calls(address, SOCK_DGRAM, FLOOR_PORT, port, fd))
CONTENDER(ic_listener, address ? ic_listener(address, NULL, port, fd) : setup_listener(port, fd))
CONTENDER(ic_listener_report, ic_listener(address, &(IcListenerReport) IC_LISTENER_REPORT_INIT, port, fd))
CONTENDER(ic_listener_udp, ic_listener_open_udp(NULL, port, fd, NULL))
CONTENDER(connect, connection(connect, 0, 0, port, fd))
CONTENDER(connect_so_reuseaddr, connection(connect, 1, 0, port, fd))
CONTENDER(connect_floor, connection(connect, 1, FLOOR_PORT, port, fd))
CONTENDER(connect_ic_listener, connection(ic_connect, 0, 0, port, fd))
CONTENDER(connect_ic_listener_report, connection(ic_connect_report, 0, 0, port, fd))
