/*
 * crowded.c
 *		See crowded.h.
 */
#define _GNU_SOURCE

#include "crowded.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "netns.h"

void
leave_in_time_wait(int port_min, int port_max)
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true, .listens = true};
	int			ipv6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (ipv6 < 0)
		neighbour.address = "0.0.0.0";
	for (int port = port_min; port <= port_max; port++)
	{
		int			listener = open_neighbour(&neighbour, port);

		require(listener >= 0, "port %d: %s", port, strerror(errno));
		leave_time_wait(listener, "127.0.0.1");
		if (ipv6 >= 0)
			leave_time_wait(listener, "::1");
		close(listener);
	}
	close(ipv6);
}

void
crowd(int port_min, int port_max)
{
	leave_in_time_wait(port_min, port_max);
	set_port_range(port_min, port_max);
}

int
server_on(const char *address, int port)
{
	Neighbour	neighbour = {.address = address, .reuse_address = true, .listens = true};
	int			fd = open_neighbour(&neighbour, port);

	require(fd >= 0, "%s, port %d: %s", address, port, strerror(errno));
	/* The default is 128 before Linux 5.4. */
	set_sysctl("net.core.somaxconn", "4096");
	expect(listen(fd, 4096) == 0);
	return fd;
}

int
stream_socket(const char *address)
{
	struct sockaddr_storage at;
	int			fd;

	socket_address(address, 0, &at);
	fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	expect(fd >= 0);
	return fd;
}

/* 0, or the errno that came with -1. */
static int
errno_of(int returned)
{
	int			error = errno;

	expect(returned == 0 || (returned == -1 && error != 0));
	return returned == 0 ? 0 : error;
}

#define AT(address, port) \
	struct sockaddr_storage storage; \
	socklen_t	length = socket_address(address, port, &storage); \
	const struct sockaddr *at = (const struct sockaddr *) &storage; \
	\
	errno = 0

int
ic_bind(int fd, const char *address, int port, IcListenerReport *report)
{
	AT(address, port);
	return errno_of(ic_listener_bind(fd, at, length, report));
}

int
ic_listen(int fd, int backlog)
{
	return errno_of(ic_listener_listen(fd, backlog, NULL));
}

int
ic_connect(int fd, const char *address, int port, IcListenerReport *report)
{
	AT(address, port);
	return errno_of(ic_listener_connect(fd, at, length, report));
}

int
plain_bind(int fd, const char *address, int port)
{
	AT(address, port);
	return errno_of(bind(fd, at, length));
}

int
plain_connect(int fd, const char *address, int port)
{
	AT(address, port);
	return errno_of(connect(fd, at, length));
}

int
connected_from(const char *source, int from, const char *address, int port)
{
	int			fd = stream_socket(source);

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	expect_equal(plain_bind(fd, source, from), 0);
	connect_to(fd, address, port);
	return fd;
}

void
leave_own_time_wait(int from, const char *address, int server)
{
	int			ours = connected_from(address, from, address, local_port(server));
	int			theirs = accept_from(server);

	close(ours);
	wait_for_end(theirs);
	close(theirs);
}

bool
kernel_has_windows(void)
{
	int			fd = stream_socket("0.0.0.0");
	bool		has = socket_option(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE) == 0;

	close(fd);
	return has;
}

void
set_window(int fd, int port_min, int port_max)
{
	set_int(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE,
			(int) ((unsigned int) port_max << 16 | port_min));
}

bool
has_no_port(int fd)
{
	return local_port(fd) == 0;
}

uint64_t
cookie_of(int fd)
{
	uint64_t	cookie = 0;
	socklen_t	size = sizeof(cookie);

	expect(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0);
	return cookie;
}
