/*
 * support.h
 *		What several of the test programs need: the set of open fds, socket
 *		options and /proc values as plain numbers, a child in the same network
 *		namespace. (netns.h has those in others.)
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <stdbool.h>
#include <stdint.h>

/* Room for the fds of any test; a higher fd is counted but not told apart. */
#define OPEN_FDS_MAX 65536

/* The fds this process has open. */
typedef struct OpenFds
{
	int			count;
	uint64_t	bits[OPEN_FDS_MAX / 64];
} OpenFds;

/* Lists /proc/self/fd; the fd that the listing itself takes is left out. */
extern OpenFds open_fds(void);

/* Whether exactly the fds in before are open, and those in extra (-1: none). */
extern bool open_fds_are(const OpenFds *before, int extra);

/* An option of type int, or -1 with errno. */
extern int	socket_option(int fd, int level, int name);

/* The local port of a socket of either family in host byte order, or -1. */
extern int	local_port(int fd);

/*
 * The first n numbers in a file of /proc. False when there are fewer, or when
 * it cannot be read.
 */
extern bool proc_numbers(const char *path, int n, long *numbers);

/*
 * Runs body in a forked child and returns its exit status, which is 0 when
 * body returns, or 128 plus the number of the signal that killed it. Checks
 * in there are require() of netns.h: a longjmp of cmocka's would run the rest
 * of the tests in the child.
 */
extern int	in_child(void (*body) (void *), void *arg);

#endif							/* SUPPORT_H */
