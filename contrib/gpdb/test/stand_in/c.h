/*
 * c.h
 *		What server and client share, for the tests.
 */
#ifndef C_H
#define C_H

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>

typedef uint16_t uint16;
typedef int32_t int32;

extern bool pg_set_noblock(int sock);
extern void pg_usleep(long microsec);

#endif							/* C_H */
