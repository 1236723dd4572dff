/*
 * sockets.h
 *		Sockets of neighbours on the same host, and data through any
 *		socket. The library is not called.
 */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <stdbool.h>
#include <sys/socket.h>

/* Which of the 65536 ports. */
typedef struct Ports
{
	bool		has[65536];
} Ports;

/* How a neighbour opens its socket. */
typedef struct Neighbour
{
	const char *address;		/* IPv4 or IPv6 */
	bool		datagrams;		/* UDP */
	bool		reuse_address;
	bool		reuse_port;
	bool		only_v6;
	bool		listens;
} Neighbour;

/* Fills in a numeric address, with a %scope or not; returns its length. */
extern socklen_t socket_address(const char *address, int port,
								struct sockaddr_storage *storage);

/* The fd, or -1 with errno when bind() or listen() refuses. */
extern int	open_neighbour(const Neighbour *neighbour, int port);

/*
 * Forks a process that opens that neighbour on each of the ports, which must
 * work. It holds them until the calling process ends, or end_child() of
 * child.h.
 */
extern int	hold_ports(const Neighbour *neighbour, const Ports *ports);

/* From now on this process may have so many; a SKIP where it may not. */
extern void allow_descriptors(int count);

extern Ports ports_from_to(int port_min, int port_max);

/* An option of type int, or -1 with errno; to set it must work. */
extern int	socket_option(int fd, int level, int name);
extern void set_int(int fd, int level, int name, int value);

extern int	backlog_of(int fd);

/* Of either family, in host byte order; or -1. */
extern int	local_port(int fd);

/* The numeric address a socket is bound to, in a buffer of the function. */
extern const char *local_address(int fd);

extern void skip_without_ipv6(void);

extern void connect_to(int fd, const char *address, int port);
extern int	accept_from(int listener);
extern void pass_a_number(int from, int to);

/* The peer has closed, and nothing was left to read. */
extern void wait_for_end(int fd);

/*
 * Data arrives at the socket when it is sent to that address; through a
 * listener both ways.
 */
extern void reach(int fd, const char *address);

/*
 * A connection through the listener that the server closes first. So its end
 * goes to TIME_WAIT, on the listener's port. The client's own port is below
 * 32768, and none of those under test.
 */
extern void leave_time_wait(int listener, const char *address);

/*
 * Which ports have a socket in that state of netinet/tcp.h, and how
 * many from port_min to port_max are in TIME_WAIT: /proc/net/tcp and tcp6.
 */
extern Ports ports_in_state(int state);
extern int	ports_in_time_wait(int port_min, int port_max);

#endif							/* SOCKETS_H */
