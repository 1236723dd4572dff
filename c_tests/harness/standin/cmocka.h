/*
 * cmocka.h
 *		As much of cmocka as test.h uses, for hosts without it, and for the
 *		static programs of check-kernels (Debian has no static cmocka). It
 *		prints TAP. One source file of a program includes it.
 */
#ifndef CMOCKA_H
#define CMOCKA_H

#include <setjmp.h>
#include <stdio.h>

struct CMUnitTest
{
	const char *name;
	void		(*body) (void **state);
	void		(*unused[2]) (void);
	void	   *state;
};

#define cmocka_unit_test(function) {.name = #function, .body = function}

#define cmocka_run_group_tests_name(group, tests, setup, teardown) \
	cmocka_run_(tests, sizeof(tests) / sizeof(*(tests)))

enum
{
	CMOCKA_FAILS_ = 1,
	CMOCKA_SKIPS_,
};

static jmp_buf cmocka_test_;

static inline int
cmocka_run_(const struct CMUnitTest *tests, size_t count)
{
	volatile int failures = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..%zu\n", count);
	for (volatile size_t i = 0; i < count; i++)
	{
		void	   *state = tests[i].state;
		int			ending = setjmp(cmocka_test_);

		if (ending == 0)
			tests[i].body(&state);
		failures += ending == CMOCKA_FAILS_;
		printf("%sok %zu - %s%s\n", ending == CMOCKA_FAILS_ ? "not " : "",
			   i + 1, tests[i].name, ending == CMOCKA_SKIPS_ ? " # SKIP" : "");
	}
	return failures;
}

#define print_message printf

#define skip() longjmp(cmocka_test_, CMOCKA_SKIPS_)

#define fail_msg(...) \
	do { \
		printf("# "); \
		printf(__VA_ARGS__); \
		printf("\n"); \
		longjmp(cmocka_test_, CMOCKA_FAILS_); \
	} while (0)

#endif							/* CMOCKA_H */
