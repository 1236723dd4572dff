/*
 * postgres.h
 *		As much of a backend as the interconnect and libpq need, for the tests:
 *		error reports in PostgreSQL's form, which backend.c prints.
 */
#ifndef POSTGRES_H
#define POSTGRES_H

#include "c.h"
#include "utils/errcodes.h"

#include <pthread.h>

extern pthread_t main_tid;

#define mainthread() ((unsigned long) main_tid)

#define LOG 15
#define ERROR 20

#define ereport(elevel, rest) \
	(errstart(elevel) ? (errfinish rest) : (void) 0)
#define elog(elevel, ...) \
	ereport(elevel, (errmsg(__VA_ARGS__)))

extern bool errstart(int elevel);
extern void errfinish(int dummy,...);
extern int	errcode(int sqlerrcode);
extern int	errmsg(const char *fmt,...)
			__attribute__((format(printf, 1, 2)));
extern int	errdetail(const char *fmt,...)
			__attribute__((format(printf, 1, 2)));
extern int	errhint(const char *fmt,...)
			__attribute__((format(printf, 1, 2)));

#endif							/* POSTGRES_H */
