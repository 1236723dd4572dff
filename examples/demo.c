/*
 * demo.c
 *		Gets an interconnect listener and talks to itself through it, over
 *		IPv4 and IPv6.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ic_listener.h"

/* Sends a line through one socket and receives it from the other. */
static int
pass_line(int from, int to, const char *line)
{
	char		got[64];
	ssize_t		n = (ssize_t) strlen(line);

	if (send(from, line, n, MSG_NOSIGNAL) != n || recv(to, got, n, MSG_WAITALL) != n)
		return -1;
	printf("  got %zd bytes: %.*s", n, (int) n, got);
	return 0;
}

/* Connects to the listener, accepts the connection, and talks both ways. */
static int
talk(int listener, const struct sockaddr *address, socklen_t size)
{
	int			result = -1;
	int			server = -1;
	int			client = socket(address->sa_family, SOCK_STREAM, 0);

	if (client < 0 || connect(client, address, size) != 0)
	{
		if (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)
		{
			printf("  left out: this host does not have that address\n");
			result = 0;
		}
	}

	/*
	 * The listener is non-blocking, so a server waits for it with poll().
	 * Here the connection is in the backlog already: connect() returned.
	 */
	else if ((server = accept(listener, NULL, NULL)) >= 0 &&
			 pass_line(client, server, "hello, listener\n") == 0 &&
			 pass_line(server, client, "hello, caller\n") == 0)
		result = 0;
	if (result != 0)
		perror("talk");
	if (server >= 0)
		close(server);
	if (client >= 0)
		close(client);
	return result;
}

int
main(void)
{
	struct sockaddr_in ipv4 = {.sin_family = AF_INET};
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6,.sin6_addr = in6addr_loopback};
	int			port;
	int			fd;
	int			failed;

	if (setup_listener(&port, &fd) != 0)
	{
		perror("setup_listener");
		return 1;
	}
	printf("listening on port %d\n", port);

	printf("127.0.0.1:\n");
	ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ipv4.sin_port = htons(port);
	failed = talk(fd, (struct sockaddr *) &ipv4, sizeof(ipv4)) != 0;

	printf("::1:\n");
	ipv6.sin6_port = htons(port);
	failed |= talk(fd, (struct sockaddr *) &ipv6, sizeof(ipv6)) != 0;

	close(fd);
	return failed;
}
