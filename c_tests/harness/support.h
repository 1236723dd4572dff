/*
 * support.h
 *		What a process has, may do, and sees.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <stdbool.h>
#include <time.h>

/* More than any test has open. */
#define OPEN_FDS_MAX 65536

typedef struct OpenFds
{
	bool		has[OPEN_FDS_MAX];
} OpenFds;

extern OpenFds open_fds(void);

/* Whether exactly the fds in before are open, and those in extra (-1: none). */
extern bool open_fds_are(const OpenFds *before, int extra);

extern double seconds_of(clockid_t clock);

/*
 * Continues as another user, without a capability. False when it may not: for
 * an ordinary user there is no other, not even in a user namespace.
 */
extern bool become_another_user(void);

/* Drops every capability; as another user where that is possible. */
extern void drop_privileges(void);

extern void skip_where_filters_see_no_socket(void);

/*
 * From now on a seccomp filter makes a call of the socket(2) family fail with
 * the error when its nth argument (from 0) has that value. A SKIP where there
 * are none.
 */
extern void refuse_call(int call, int argument, int value, int error);

/* A SKIP where there can be none. In there, a directory can be hidden. */
extern void enter_mount_namespace(void);
extern void mount_empty_over(const char *directory);

#endif							/* SUPPORT_H */
