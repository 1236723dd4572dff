/*
 * backend.h
 *		What the tests see of the stand-in for a backend.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <setjmp.h>

typedef struct ErrorData
{
	int			elevel;			/* 0: nothing was reported */
	int			saved_errno;
	int			sqlerrcode;
	char		message[512];
	char		detail[512];
	char		hint[512];
} ErrorData;

/* The last report, and where ereport(ERROR) jumps to. */
extern ErrorData edata;
extern jmp_buf exception_stack;

#endif							/* BACKEND_H */
