/*
 * cmocka.h
 *		As much of cmocka as the test programs use that check-kernels boots:
 *		Debian has no static library of it, and a kernel without a file system
 *		has no dynamic ones. The same sources, compiled with this header first
 *		in the include path, become static programs that print TAP.
 *
 * One source file of a program includes it; the tests' children never use it,
 * see child.h.
 */
#ifndef CMOCKA_H
#define CMOCKA_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest
{
	const char *name;
	void		(*test_func) (void **state);
};

#define cmocka_unit_test(function) {#function, function}

#define cmocka_run_group_tests_name(group, tests, setup, teardown) \
	cmocka_run_(tests, sizeof(tests) / sizeof(*(tests)), setup, teardown)

#define cmocka_run_group_tests(tests, setup, teardown) \
	cmocka_run_group_tests_name(NULL, tests, setup, teardown)

enum
{
	CMOCKA_FAILS_ = 1,
	CMOCKA_SKIPS_,
};

static jmp_buf cmocka_test_;

static inline int
cmocka_run_(const struct CMUnitTest *tests, size_t count,
			int (*setup) (void **), int (*teardown) (void **))
{
	void	   *state = NULL;
	volatile int failures = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..%zu\n", count);
	if (setup != NULL && setup(&state) != 0)
		return 1;
	for (volatile size_t i = 0; i < count; i++)
	{
		int			ending = setjmp(cmocka_test_);

		if (ending == 0)
			tests[i].test_func(&state);
		failures += ending == CMOCKA_FAILS_;
		printf("%sok %zu - %s%s\n", ending == CMOCKA_FAILS_ ? "not " : "",
			   i + 1, tests[i].name, ending == CMOCKA_SKIPS_ ? " # SKIP" : "");
	}
	if (teardown != NULL && teardown(&state) != 0)
		return 1;
	return failures;
}

#define print_message printf

#define skip() longjmp(cmocka_test_, CMOCKA_SKIPS_)

#define fail_msg(...) \
	do { \
		printf("# %s:%d: ", __FILE__, __LINE__); \
		printf(__VA_ARGS__); \
		printf("\n"); \
		longjmp(cmocka_test_, CMOCKA_FAILS_); \
	} while (0)

#define assert_true(condition) \
	do { \
		if (!(condition)) \
			fail_msg("not true: %s", #condition); \
	} while (0)

#define assert_false(condition) assert_true(!(condition))
#define assert_null(pointer) assert_true((pointer) == NULL)
#define assert_non_null(pointer) assert_true((pointer) != NULL)

#define assert_int_equal(left, right) \
	do { \
		intmax_t	left_ = (intmax_t) (left); \
		intmax_t	right_ = (intmax_t) (right); \
		\
		if (left_ != right_) \
			fail_msg("%s is %jd, %s is %jd", #left, left_, #right, right_); \
	} while (0)

#define assert_in_range(value, least, most) \
	do { \
		intmax_t	value_ = (intmax_t) (value); \
		\
		if (value_ < (intmax_t) (least) || value_ > (intmax_t) (most)) \
			fail_msg("%s is %jd, not in %jd to %jd", #value, value_, \
					 (intmax_t) (least), (intmax_t) (most)); \
	} while (0)

#define assert_string_equal(left, right) \
	do { \
		const char *left_ = (left); \
		const char *right_ = (right); \
		\
		if (strcmp(left_, right_) != 0) \
			fail_msg("%s is \"%s\", not \"%s\"", #left, left_, right_); \
	} while (0)

#define assert_memory_equal(left, right, size) \
	assert_true(memcmp((left), (right), (size)) == 0)

#endif							/* CMOCKA_H */
