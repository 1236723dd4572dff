/*
 * ic_tcp.c
 *		The head of Greenplum 4.3, 5 and HAWQ's file of that name; ic_tcp.body follows.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "libpq/libpq-be.h"

#include "cdb/ml_ipc.h"
#include "cdb/cdbvars.h"

#include <fcntl.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/time.h>
#include <netinet/in.h>

#ifdef HAVE_POLL_H
#include <poll.h>
#endif

#ifdef WIN32
#define WIN32_LEAN_AND_MEAN
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0600
#endif
#include <winsock2.h>
#include <ws2tcpip.h>
#define SHUT_RDWR SD_BOTH

#ifndef POLLIN
#define POLLIN 0x0300
#endif

#define poll WSAPoll
#endif

