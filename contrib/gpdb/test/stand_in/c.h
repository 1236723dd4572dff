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
typedef int64_t int64;
typedef int64 TimestampTz;

#define INT64CONST(x) (x##L)
#define Min(x, y) ((x) < (y) ? (x) : (y))
#define Max(x, y) ((x) > (y) ? (x) : (y))
#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

extern bool pg_set_noblock(int sock);
extern size_t strlcpy(char *dst, const char *src, size_t siz);
extern void pg_usleep(long microsec);

#endif							/* C_H */
