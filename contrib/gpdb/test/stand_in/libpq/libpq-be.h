/* libpq/libpq-be.h, for the tests. */
#ifndef LIBPQ_BE_H
#define LIBPQ_BE_H

typedef struct Port
{
	int			sock;
} Port;

#endif							/* LIBPQ_BE_H */
