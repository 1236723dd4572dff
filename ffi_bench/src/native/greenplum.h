/*
 * greenplum.h
 *		How Greenplum opens its interconnect sockets, and the fix that was
 *		proposed for it: what ic_listener is compared with, here and in the
 *		PostgreSQL extension.
 */
#ifndef GREENPLUM_H
#define GREENPLUM_H

#define HIDDEN __attribute__((visibility("hidden")))

/*
 * A socket of that type (SOCK_STREAM or SOCK_DGRAM), on a numeric address or,
 * NULL, the wildcard. Returns 0, or -1 with errno set and *step naming the call
 * that failed.
 */
extern int	greenplum_socket(const char *address, int type, int *port, int *fd,
							 const char **step) HIDDEN;

/*
 * SO_REUSEADDR before bind() to port 0, as gpdb pull request 8884 proposed,
 * and once more from the start when another socket listened first, as its
 * review asked for. Returns the same.
 */
extern int	so_reuseaddr_listener(int *port, int *fd, const char **step) HIDDEN;

/* Closes the socket and leaves errno as it is. Returns -1. */
extern int	close_and_fail(int sock) HIDDEN;

/* The port that a socket is bound to. Returns 0, or -1 with errno set. */
extern int	bound_port(int sock, int *port) HIDDEN;

#endif							/* GREENPLUM_H */
