/*
 * backend.h
 *		What the tests see of the stand-in for a backend.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <setjmp.h>

/* Where ereport(ERROR) jumps to, and an interrupt that is not held off. */
extern jmp_buf exception_stack;

/*
 * What happens when pg_usleep() has waited, and while a LOG entry is written;
 * and for how long pg_usleep() was asked to wait.
 */
extern void (*while_waiting) (void);
extern void (*while_logging) (void);
extern long microseconds_waited;

extern TimestampTz statement_start;
extern bool normal_processing;

#endif							/* BACKEND_H */
