/*
 * crowded.h
 *		A host whose ports are all taken, and the calls that still find
 *		one: ic_listener_bind(), _listen() and _connect().
 */
#ifndef CROWDED_H
#define CROWDED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "ic_listener.h"
#include "sockets.h"

/*
 * Leaves every port of the range in TIME_WAIT, as listeners with SO_REUSEADDR
 * do, in both families: connect() passes over all of them, and so does bind()
 * to port 0.
 */
extern void leave_in_time_wait(int port_min, int port_max);

/* leave_in_time_wait(), and it is the ephemeral port range. */
extern void crowd(int port_min, int port_max);

/* A listener with a long backlog. Its connections are not accepted. */
extern int	server_on(const char *address, int port);

/* Of the family that the address has. */
extern int	stream_socket(const char *address);

/* 0, or the errno. */
extern int	ic_bind(int fd, const char *address, int port,
					IcListenerReport *report);
extern int	ic_listen(int fd, int backlog);
extern int	ic_connect(int fd, const char *address, int port,
					   IcListenerReport *report);

extern int	plain_bind(int fd, const char *address, int port);
extern int	plain_connect(int fd, const char *address, int port);

/* Connects from that port by name, which must work. Returns the fd. */
extern int	connected_from(const char *source, int from, const char *address,
						 int port);

/* Such a connection to the server, which is closed here first: TIME_WAIT. */
extern void leave_own_time_wait(int from, const char *address, int server);

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

/* Linux 6.3 */
extern bool kernel_has_windows(void);
extern void set_window(int fd, int port_min, int port_max);

extern bool has_no_port(int fd);

/* The kernel's number of a socket, whatever its fd: SO_COOKIE. */
extern uint64_t cookie_of(int fd);

#endif							/* CROWDED_H */
