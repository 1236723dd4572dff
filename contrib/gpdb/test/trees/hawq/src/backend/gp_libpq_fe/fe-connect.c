/*
 * fe-connect.c
 *		The head of Greenplum 4.3 and HAWQ's file of that name; fe-connect.body follows.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "gp-libpq-int.h"

#ifdef WIN32
#include "win32.h"
#ifdef near
#undef near
#endif
#define near
#include <shlobj.h>
#else
#include <sys/socket.h>
#include <netdb.h>
#include <netinet/in.h>
#ifdef HAVE_NETINET_TCP_H
#include <netinet/tcp.h>
#endif
#include <arpa/inet.h>
#endif

#ifdef ENABLE_THREAD_SAFETY
#include <pthread.h>
#endif

#include "mb/pg_wchar.h"

#ifndef FD_CLOEXEC
#define FD_CLOEXEC 1
#endif

