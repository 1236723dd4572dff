/*
 * backend.h
 *		What the tests see of the stand-in for a backend.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <setjmp.h>

/* Where ereport(ERROR) jumps to, and an interrupt that is not held off. */
extern jmp_buf exception_stack;

/* What happens while pg_usleep() waits, and for how long that was asked. */
extern void (*while_waiting) (void);
extern long microseconds_waited;

#endif							/* BACKEND_H */
