/*
 * so_reuseaddr.h
 *		The listener that was proposed for Greenplum, to compare with.
 */
#ifndef SO_REUSEADDR_H
#define SO_REUSEADDR_H

/*
 * Returns 0, or -1 with errno set and *step naming the call that failed.
 */
extern int	so_reuseaddr_listener(int *port, int *fd, const char **step)
			__attribute__((visibility("hidden")));

#endif							/* SO_REUSEADDR_H */
