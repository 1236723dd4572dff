/*
 * sockets.h
 *		Sockets of the library, and of the neighbours it shares a host with.
 */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "ic_listener.h"

/* What one call of ic_listener_open_tcp() gave. */
typedef struct Call
{
	int			returned;
	int			error;			/* errno, when it did not return 0 */
	int			port;
	int			fd;
	IcListenerReport report;
} Call;

/* options may be NULL. */
extern Call open_listener(const IcListenerOptions *options);

/* open_listener(), which has to succeed. */
extern Call require_listener(const IcListenerOptions *options);

/* Which of the 65536 ports. */
typedef struct Ports
{
	bool		has[65536];
} Ports;

/*
 * Opens listeners, and leaves them open, until there is no port left: with
 * EADDRINUSE, which is required. Each port has to come once only. Returns how
 * many there were; *taken are their ports, *last is the call that failed.
 */
extern int	take_all_ports(const IcListenerOptions *options, Ports *taken,
						   Call *last);

/* How a neighbour opens his socket. */
typedef struct Neighbour
{
	const char *address;		/* IPv4 or IPv6 */
	bool		reuse_address;
	bool		reuse_port;
	bool		only_v6;
	bool		listens;
} Neighbour;

/* Fills in a numeric address; returns its length. */
extern socklen_t socket_address(const char *address, int port,
								struct sockaddr_storage *storage);

/* The fd, or -1 with errno when bind() or listen() refuses. */
extern int	open_neighbour(const Neighbour *neighbour, int port);

/*
 * Forks a process that opens that neighbour on each of the ports (which has
 * to work), and holds them until the process that asked ends, or end_child().
 */
extern int	hold_ports(const Neighbour *neighbour, const Ports *ports);
extern void end_child(int pid);

/* A set of ports: all from port_min to port_max. */
extern Ports ports_from_to(int port_min, int port_max);

/*
 * Connects to the port on that address and sends a byte through the accepted
 * connection, which is closed by the server first. The client's own port is
 * below 32768, so that it takes none of those under test.
 */
extern void exchange_a_byte(int listener_fd, const char *address, int port);

/* How many ports from port_min to port_max are in TIME_WAIT. */
extern int	ports_in_time_wait(int port_min, int port_max);

#endif							/* SOCKETS_H */
