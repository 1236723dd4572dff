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
pass_line(int from, int to, const char *line, const char *what)
{
	char		got[64];
	ssize_t		n = (ssize_t) strlen(line);

	if (send(from, line, n, MSG_NOSIGNAL) != n)
	{
		perror("send");
		return -1;
	}
	if (recv(to, got, n, MSG_WAITALL) != n)
	{
		perror("recv");
		return -1;
	}
	printf("  %s got %zd bytes: %.*s", what, n, (int) n, got);
	return 0;
}

/* Connects to the listener, accepts the connection, and talks both ways. */
static int
talk(int listener, const struct sockaddr *address, socklen_t size)
{
	struct sockaddr_storage peer;
	socklen_t	peer_size = sizeof(peer);
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
		else
			perror("connect");
	}

	/*
	 * The listener is non-blocking, so a server waits for it with poll().
	 * Here the connection is in the backlog already: connect() returned.
	 */
	else if ((server = accept(listener, (struct sockaddr *) &peer,
							  &peer_size)) < 0)
		perror("accept");
	else
	{
		printf("  accepted fd %d from a peer of family %s\n", server,
			   peer.ss_family == AF_INET6 ? "AF_INET6" : "AF_INET");
		if (pass_line(client, server, "hello, listener\n", "server") == 0 &&
			pass_line(server, client, "hello, caller\n", "client") == 0)
			result = 0;
	}
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
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};
	int			port;
	int			fd;
	int			failed;

	if (setup_listener(&port, &fd) != 0)
	{
		perror("setup_listener");
		return 1;
	}
	printf("listening on port %d, fd %d\n", port, fd);

	printf("127.0.0.1:\n");
	ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ipv4.sin_port = htons(port);
	failed = talk(fd, (struct sockaddr *) &ipv4, sizeof(ipv4)) != 0;

	printf("::1:\n");
	ipv6.sin6_addr = in6addr_loopback;
	ipv6.sin6_port = htons(port);
	failed |= talk(fd, (struct sockaddr *) &ipv6, sizeof(ipv6)) != 0;

	close(fd);
	return failed;
}
