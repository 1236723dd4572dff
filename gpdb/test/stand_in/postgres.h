/*
 * postgres.h
 *		As much of a backend as the interconnect's listeners need, for the
 *		tests: error reports in PostgreSQL's form, which backend.c catches.
 */
#ifndef POSTGRES_H
#define POSTGRES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint16_t uint16;
typedef int32_t int32;

#define DEBUG1 14
#define DEBUG3 12
#define ERROR 20

#define ERRCODE_GP_INTERCONNECTION_ERROR 581

#define _(text) stand_in_gettext(text)

#define ereport(elevel, rest) \
	(errstart(elevel) ? (errfinish rest) : (void) 0)
#define elog(elevel, ...) \
	ereport(elevel, (errmsg(__VA_ARGS__)))

extern bool errstart(int elevel);
extern void errfinish(int dummy,...);
extern int	errcode(int sqlerrcode);
extern int	errmsg(const char *fmt,...)
			__attribute__((format(printf, 1, 2)));
extern int	errmsg_internal(const char *fmt,...)
			__attribute__((format(printf, 1, 2)));
extern int	errdetail(const char *fmt,...)
			__attribute__((format(printf, 1, 2)));
extern int	errhint(const char *fmt,...)
			__attribute__((format(printf, 1, 2)));
extern const char *stand_in_gettext(const char *text)
			__attribute__((format_arg(1)));

#endif							/* POSTGRES_H */
