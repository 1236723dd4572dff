/*
 * support.h
 *		What a process has, may do, and sees: its open fds, its clocks, its
 *		privileges, refused system calls, hidden directories.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <stdbool.h>
#include <time.h>

/* More than any test has open. */
#define OPEN_FDS_MAX 65536

/* The fds this process has open. */
typedef struct OpenFds
{
	bool		has[OPEN_FDS_MAX];
} OpenFds;

/* Lists /proc/self/fd; the fd that the listing itself takes is left out. */
extern OpenFds open_fds(void);

/* Whether exactly the fds in before are open, and those in extra (-1: none). */
extern bool open_fds_are(const OpenFds *before, int extra);

/* What a clock of clock_gettime(2) shows. */
extern double seconds_of(clockid_t clock);

/*
 * Continues as another user, without a capability. False when it may not: for
 * an ordinary user there is no other, not even in a user namespace.
 */
extern bool become_another_user(void);

/*
 * Drops every capability, CAP_NET_BIND_SERVICE included; as another user
 * where that is possible.
 */
extern void drop_privileges(void);

extern void skip_where_filters_see_no_socket(void);

/*
 * From now on a seccomp filter makes a call of the socket(2) family fail with
 * the error when its nth argument (from 0) has that value. A SKIP where there
 * are none.
 */
extern void refuse_call(int call, int argument, int value, int error);

/*
 * Enters a new mount namespace; a SKIP where there can be none. In there, an
 * empty file system hides a directory.
 */
extern void enter_mount_namespace(void);
extern void mount_empty_over(const char *directory);

#endif							/* SUPPORT_H */
