/*
 * contenders.c
 *		What ic_listener is measured against, and how it is called itself.
 *
 * Every contender is an int (*)(const char *address, int *port, int *fd): 0
 * and a socket, or not 0 and errno.  The address is NULL for the wildcard, or
 * 127.0.0.1.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "greenplum.h"
#include "ic_listener.h"

#define BACKLOG 128

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

int
bench_stock(const char *address, int *port, int *fd)
{
	const char *step;

	return greenplum_socket(address, SOCK_STREAM, port, fd, &step);
}

int
bench_stock_udp(const char *address, int *port, int *fd)
{
	const char *step;

	return greenplum_socket(address, SOCK_DGRAM, port, fd, &step);
}

int
bench_so_reuseaddr(const char *address, int *port, int *fd)
{
	const char *step;

	(void) address;
	return so_reuseaddr_listener(port, fd, &step);
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

int
bench_floor(const char *address, int *port, int *fd)
{
	return fewest_calls(address, SOCK_STREAM, FLOOR_PORT, port, fd);
}

int
bench_floor_udp(const char *address, int *port, int *fd)
{
	return fewest_calls(address, SOCK_DGRAM, FLOOR_PORT, port, fd);
}

int
bench_bind_0(const char *address, int *port, int *fd)
{
	return fewest_calls(address, SOCK_STREAM, 0, port, fd);
}

/*
 * What it takes at the least to know that no port can be listened on, where
 * listeners hold them all: to be refused each.
 */
int
bench_bind_each(const char *address, int *port, int *fd)
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

int
bench_ic_listener(const char *address, int *port, int *fd)
{
	return address ? ic_listener(address, NULL, port, fd) : setup_listener(port, fd);
}

int
bench_ic_listener_report(const char *address, int *port, int *fd)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;

	return ic_listener(address, &report, port, fd);
}

int
bench_ic_listener_udp(const char *address, int *port, int *fd)
{
	(void) address;
	return ic_listener_open_udp(NULL, port, fd, NULL);
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

int
bench_connect(const char *address, int *port, int *fd)
{
	(void) address;
	return connection(connect, 0, 0, port, fd);
}

int
bench_connect_so_reuseaddr(const char *address, int *port, int *fd)
{
	(void) address;
	return connection(connect, 1, 0, port, fd);
}

int
bench_connect_floor(const char *address, int *port, int *fd)
{
	(void) address;
	return connection(connect, 1, FLOOR_PORT, port, fd);
}

static int
ic_connect(int sock, const struct sockaddr *address, socklen_t size)
{
	return ic_listener_connect(sock, address, size, NULL);
}

int
bench_connect_ic_listener(const char *address, int *port, int *fd)
{
	(void) address;
	return connection(ic_connect, 0, 0, port, fd);
}

static int
ic_connect_report(int sock, const struct sockaddr *address, socklen_t size)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;

	return ic_listener_connect(sock, address, size, &report);
}

int
bench_connect_ic_listener_report(const char *address, int *port, int *fd)
{
	(void) address;
	return connection(ic_connect_report, 0, 0, port, fd);
}
