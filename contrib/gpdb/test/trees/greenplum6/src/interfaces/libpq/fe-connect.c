/*
 * fe-connect.c
 *		The head of all trees' file of that name; fe-connect.body follows.
 */
/*
 * Compiled for the backend too, by way of a symbolic link: c.h, and not postgres_fe.h, which defines FRONTEND.
 */
#include "c.h"

#ifndef WIN32
#include <poll.h>
#endif

#include <fcntl.h>
#include <unistd.h>

#include "libpq-int.h"

#ifdef WIN32
#include "win32.h"
#else
#include <sys/socket.h>
#include <netdb.h>
#include <netinet/in.h>
#ifdef HAVE_NETINET_TCP_H
#include <netinet/tcp.h>
#endif
#endif

#ifdef ENABLE_THREAD_SAFETY
#ifdef WIN32
#include "pthread-win32.h"
#else
#include <pthread.h>
#endif
#endif

#ifdef USE_LDAP
#ifdef WIN32
#include <winldap.h>
#else
/* An "#include" in a comment. */
#define LDAP_DEPRECATED 1
#include <ldap.h>
#endif
#endif

#include "mb/pg_wchar.h"

#define ERRCODE_APPNAME_UNKNOWN "42704"

/* This is part of the protocol so just define it */
#define ERRCODE_INVALID_PASSWORD "28P01"
/* This too */
#define ERRCODE_CANNOT_CONNECT_NOW "57P03"
#define ERRCODE_MIRROR_READY "57M02"

