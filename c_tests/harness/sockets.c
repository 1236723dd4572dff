/*
 * sockets.c
 *		See sockets.h.
 */
#define _GNU_SOURCE

#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netns.h"

#define TCP_TIME_WAIT 6			/* include/net/tcp_states.h of the kernel */

Call
open_listener(const IcListenerOptions *options)
{
	Call		call = {.report = IC_LISTENER_REPORT_INIT};

	errno = 0;
	call.returned = ic_listener_open_tcp(options, &call.port, &call.fd,
										 &call.report);
	call.error = errno;
	return call;
}

Call
require_listener(const IcListenerOptions *options)
{
	Call		call = open_listener(options);

	require(call.returned == 0, "no listener: %s", call.report.message);
	return call;
}

int
take_all_ports(const IcListenerOptions *options, Ports *taken, Call *last)
{
	memset(taken, 0, sizeof(*taken));
	for (int count = 0;; count++)
	{
		*last = open_listener(options);
		if (last->returned != 0)
		{
			require(last->error == EADDRINUSE, "%s (errno %d)",
					last->report.message, last->error);
			return count;
		}
		require(!taken->has[last->port], "port %d came twice", last->port);
		taken->has[last->port] = true;
	}
}

socklen_t
socket_address(const char *address, int port, struct sockaddr_storage *storage)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) storage;
	struct sockaddr_in *in = (struct sockaddr_in *) storage;

	memset(storage, 0, sizeof(*storage));
	if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1)
	{
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		return sizeof(*in6);
	}
	require(inet_pton(AF_INET, address, &in->sin_addr) == 1,
			"not an address: %s", address);
	in->sin_family = AF_INET;
	in->sin_port = htons(port);
	return sizeof(*in);
}

static void
set_option(int fd, int level, int name, int value)
{
	require(setsockopt(fd, level, name, &value, sizeof(value)) == 0,
			"setsockopt %d: %s", name, strerror(errno));
}

int
open_neighbour(const Neighbour *neighbour, int port)
{
	struct sockaddr_storage address;
	socklen_t	length = socket_address(neighbour->address, port, &address);
	int			fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			refusal;

	require(fd >= 0, "socket: %s", strerror(errno));
	if (address.ss_family == AF_INET6)
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, neighbour->only_v6);
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, neighbour->reuse_address);
	set_option(fd, SOL_SOCKET, SO_REUSEPORT, neighbour->reuse_port);
	if (bind(fd, (struct sockaddr *) &address, length) == 0 &&
		(!neighbour->listens || listen(fd, 8) == 0))
		return fd;
	refusal = errno;
	close(fd);
	errno = refusal;
	return -1;
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
		close(ready[0]);
		for (int port = 1; port <= 65535; port++)
		{
			if (ports->has[port])
				require(open_neighbour(neighbour, port) >= 0,
						"%s port %d: %s", neighbour->address, port,
						strerror(errno));
		}
		require(write(ready[1], "", 1) == 1, "pipe: %s", strerror(errno));
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		wait_for_child(pid);
	close(ready[0]);
	return pid;
}

void
end_child(int pid)
{
	require(kill(pid, SIGKILL) == 0, "kill: %s", strerror(errno));
	require(waitpid(pid, NULL, 0) == pid, "waitpid: %s", strerror(errno));
}

Ports
ports_from_to(int port_min, int port_max)
{
	Ports		ports = {.has = {false}};

	for (int port = port_min; port <= port_max; port++)
		ports.has[port] = true;
	return ports;
}

/* Waits until there is something to accept or to read. */
static void
wait_until_readable(int fd)
{
	struct pollfd waiting = {.fd = fd, .events = POLLIN};

	require(poll(&waiting, 1, 10000) == 1, "nothing within 10 s");
}

void
exchange_a_byte(int listener_fd, const char *address, int port)
{
	static int	client_port = 10000;
	struct sockaddr_storage to;
	socklen_t	length = socket_address(address, port, &to);
	Neighbour	client = {
		.address = to.ss_family == AF_INET6 ? "::" : "0.0.0.0",
		.reuse_address = true,
	};
	char		byte = 'x';
	int			sender;
	int			receiver;

	client_port = client_port == 32767 ? 10000 : client_port + 1;
	sender = open_neighbour(&client, client_port);
	require(sender >= 0, "client port %d: %s", client_port, strerror(errno));
	require(connect(sender, (struct sockaddr *) &to, length) == 0,
			"connect to %s port %d: %s", address, port, strerror(errno));
	wait_until_readable(listener_fd);
	receiver = accept(listener_fd, NULL, NULL);
	require(receiver >= 0, "accept: %s", strerror(errno));
	require(send(sender, &byte, 1, 0) == 1, "send: %s", strerror(errno));
	wait_until_readable(receiver);
	require(recv(receiver, &byte, 1, 0) == 1 && byte == 'x', "no byte came");
	close(receiver);
	wait_until_readable(sender);
	require(recv(sender, &byte, 1, 0) == 0, "more than the end came");
	close(sender);
}

static void
mark_time_wait(const char *path, Ports *ports)
{
	FILE	   *file = fopen(path, "r");
	char		line[512];
	unsigned int port;
	unsigned int state;

	require(file != NULL, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file) != NULL)
	{
		if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &port,
				   &state) == 2 && state == TCP_TIME_WAIT)
			ports->has[port] = true;
	}
	fclose(file);
}

int
ports_in_time_wait(int port_min, int port_max)
{
	Ports		ports = {.has = {false}};
	int			count = 0;

	mark_time_wait("/proc/net/tcp", &ports);
	mark_time_wait("/proc/net/tcp6", &ports);
	for (int port = port_min; port <= port_max; port++)
		count += ports.has[port];
	return count;
}
