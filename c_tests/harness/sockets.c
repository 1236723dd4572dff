/*
 * sockets.c
 *		See sockets.h.
 */
#define _GNU_SOURCE

#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "child.h"

socklen_t
socket_address(const char *address, int port, struct sockaddr_storage *storage)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) storage;
	struct sockaddr_in *in = (struct sockaddr_in *) storage;
	char		host[INET6_ADDRSTRLEN];
	size_t		length = strcspn(address, "%");

	snprintf(host, sizeof(host), "%.*s", (int) length, address);
	memset(storage, 0, sizeof(*storage));
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1)
	{
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		if (address[length] == '%')
			in6->sin6_scope_id = if_nametoindex(address + length + 1);
		return sizeof(*in6);
	}
	require(inet_pton(AF_INET, host, &in->sin_addr) == 1,
			"not an address: %s", address);
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	return sizeof(*in);
}

int
open_neighbour(const Neighbour *neighbour, int port)
{
	struct sockaddr_storage address;
	socklen_t	length = socket_address(neighbour->address, port, &address);
	int			type = neighbour->datagrams ? SOCK_DGRAM : SOCK_STREAM;
	int			fd = socket(address.ss_family, type | SOCK_CLOEXEC, 0);
	int			refusal;

	if (fd < 0 && errno == EMFILE)
		return -1;
	require(fd >= 0, "socket: %s", strerror(errno));
	if (address.ss_family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, neighbour->only_v6);
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, neighbour->reuse_address);
	set_int(fd, SOL_SOCKET, SO_REUSEPORT, neighbour->reuse_port);
	if (bind(fd, (struct sockaddr *) &address, length) == 0 &&
		(!neighbour->listens || listen(fd, 8) == 0))
		return fd;
	refusal = errno;
	close(fd);
	errno = refusal;
	return -1;
}

void
allow_descriptors(int count)
{
	struct rlimit limit = {count, count};

	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		skip_child("%d descriptors: ulimit -n %d, or run as root", count, count);
}

int
hold_ports(const Neighbour *neighbour, const Ports *ports)
{
	int			ready[2];
	char		byte;
	int			pid;

	require(pipe(ready) == 0, "pipe: %s", strerror(errno));
	pid = fork_child();
	if (pid == 0)
	{
		dup2(ready[1], 3);
		for (int port = 1; port <= 65535; port++)
		{
			if (!ports->has[port] || open_neighbour(neighbour, port) >= 0)
				continue;
			require(errno == EMFILE, "%s port %d: %s", neighbour->address,
					port, strerror(errno));

			/* One process may not have that many: its child goes on. */
			if (fork_child() != 0)
				for (;;)
					pause();
			for (int fd = 4; close(fd) == 0; fd++)
				;
			port--;
		}
		require(write(3, "", 1) == 1, "pipe: %s", strerror(errno));
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		wait_for_child(pid);
	close(ready[0]);
	return pid;
}

Ports
ports_from_to(int port_min, int port_max)
{
	Ports		ports = {.has = {false}};

	for (int port = port_min; port <= port_max; port++)
		ports.has[port] = true;
	return ports;
}

int
socket_option(int fd, int level, int name)
{
	int			value;
	socklen_t	size = sizeof(value);

	return getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
}

void
set_int(int fd, int level, int name, int value)
{
	require(setsockopt(fd, level, name, &value, sizeof(value)) == 0,
			"setsockopt %d %d: %s", level, name, strerror(errno));
}

/* tcp_get_info() shows it as tcpi_sacked. */
int
backlog_of(int fd)
{
	struct tcp_info info;
	socklen_t	size = sizeof(info);

	require(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0,
			"TCP_INFO: %s", strerror(errno));
	return info.tcpi_sacked;
}

int
local_port(int fd)
{
	struct sockaddr_storage address;
	socklen_t	size = sizeof(address);

	if (getsockname(fd, (struct sockaddr *) &address, &size) != 0)
		return -1;
	/* The port is at the same place in both families. */
	return ntohs(((struct sockaddr_in *) &address)->sin_port);
}

const char *
local_address(int fd)
{
	static char host[NI_MAXHOST];
	struct sockaddr_storage address;
	socklen_t	size = sizeof(address);

	expect(getsockname(fd, (struct sockaddr *) &address, &size) == 0);
	expect(getnameinfo((struct sockaddr *) &address, size, host, sizeof(host),
					   NULL, 0, NI_NUMERICHOST) == 0);
	return host;
}

void
skip_without_ipv6(void)
{
	int			fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage loopback;
	socklen_t	length = socket_address("::1", 0, &loopback);

	if (fd < 0 || bind(fd, (struct sockaddr *) &loopback, length) != 0)
		skip_child("IPv6 on lo: boot without ipv6.disable=1, and sysctl "
				   "net.ipv6.conf.lo.disable_ipv6=0");
	close(fd);
}

void
connect_to(int fd, const char *address, int port)
{
	struct sockaddr_storage to;
	socklen_t	length = socket_address(address, port, &to);

	require(connect(fd, (struct sockaddr *) &to, length) == 0,
			"connect to %s, port %d: %s", address, port, strerror(errno));
}

static void
wait_until_readable(int fd)
{
	struct pollfd waiting = {.fd = fd, .events = POLLIN};

	require(poll(&waiting, 1, 10000) == 1, "nothing within 10 s");
}

int
accept_from(int listener)
{
	int			fd;

	/* The listener may be non-blocking. */
	wait_until_readable(listener);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	require(fd >= 0, "accept: %s", strerror(errno));
	return fd;
}

void
pass_a_number(int from, int to)
{
	static int	number;
	int			got = 0;

	number++;
	expect_equal(send(from, &number, sizeof(number), MSG_NOSIGNAL),
				 sizeof(number));
	wait_until_readable(to);
	expect_equal(recv(to, &got, sizeof(got), 0), sizeof(got));
	expect_equal(got, number);
}

void
wait_for_end(int fd)
{
	char		byte;

	wait_until_readable(fd);
	expect_equal(recv(fd, &byte, 1, 0), 0);
}

void
reach(int fd, const char *address)
{
	int			type = socket_option(fd, SOL_SOCKET, SO_TYPE);
	struct sockaddr_storage to;
	int			client;

	socket_address(address, 0, &to);
	client = socket(to.ss_family, type | SOCK_CLOEXEC, 0);
	expect(client >= 0);
	connect_to(client, address, local_port(fd));
	if (type == SOCK_DGRAM)
		pass_a_number(client, fd);
	else
	{
		int			server = accept_from(fd);

		pass_a_number(client, server);
		pass_a_number(server, client);
		close(server);
	}
	close(client);
}

void
leave_time_wait(int listener, const char *address)
{
	static int	client_port = 10000;
	Neighbour	client = {
		.address = strchr(address, ':') != NULL ? "::" : "0.0.0.0",
		.reuse_address = true,
	};
	int			sender;
	int			receiver;

	client_port = client_port == 32767 ? 10000 : client_port + 1;
	sender = open_neighbour(&client, client_port);
	require(sender >= 0, "client port %d: %s", client_port, strerror(errno));
	connect_to(sender, address, local_port(listener));
	receiver = accept_from(listener);
	pass_a_number(sender, receiver);
	close(receiver);
	wait_for_end(sender);
	close(sender);
}

Ports
ports_in_state(int state)
{
	static const char *const files[] = {"/proc/net/tcp", "/proc/net/tcp6"};
	Ports		ports = {.has = {false}};
	char		line[512];
	unsigned	port;
	unsigned	shown;

	for (int i = 0; i < 2; i++)
	{
		FILE	   *file = fopen(files[i], "r");

		require(file != NULL, "%s: %s", files[i], strerror(errno));
		while (fgets(line, sizeof(line), file) != NULL)
		{
			if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &port,
					   &shown) == 2 && shown == (unsigned) state)
				ports.has[port] = true;
		}
		fclose(file);
	}
	return ports;
}

int
ports_in_time_wait(int port_min, int port_max)
{
	Ports		ports = ports_in_state(TCP_TIME_WAIT);
	int			count = 0;

	for (int port = port_min; port <= port_max; port++)
		count += ports.has[port];
	return count;
}
