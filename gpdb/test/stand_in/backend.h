/*
 * backend.h
 *		What the tests see of the stand-in for a backend.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <setjmp.h>

/* Where ereport(ERROR) jumps to, and an interrupt that is not held off. */
extern jmp_buf exception_stack;

#endif							/* BACKEND_H */
