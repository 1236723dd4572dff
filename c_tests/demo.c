/*
 * demo.c
 *		Gets an interconnect listener and talks to itself through it, over
 *		IPv4 and over IPv6.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ic_listener.h"

int
main(void)
{
	int			port;
	int			fd;

	if (setup_listener(&port, &fd) != 0)
	{
		perror("setup_listener");
		return 1;
	}
	printf("listening on port %d, fd %d\n", port, fd);
	close(fd);
	return 0;
}
