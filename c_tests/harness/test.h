/*
 * test.h
 *		Everything that a test program includes: the harness, and cmocka to
 *		name and run the tests.
 *
 *	TEST(a_promise)
 *	{
 *		expect_equal(require_listener(NULL).report.family, AF_INET6);
 *	}
 *
 *	int
 *	main(void)
 *	{
 *		return run_all(test(a_promise));
 *	}
 *
 * Each test runs in a child (child.h), so it fails by require() and expect().
 * cmocka's assertions would run the rest of the tests in the child.
 */
#ifndef TEST_H
#define TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "calls.h"
#include "child.h"
#include "ic_listener.h"
#include "netns.h"
#include "sockets.h"
#include "support.h"

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

#define TEST(name) TEST_(name, run_in_child)
#define TEST_IN_NETNS(name) TEST_(name, run_in_netns)

#define TEST_(promise, run) \
	static void promise##_body(void *unused); \
	static void \
	promise(void **state) \
	{ \
		(void) state; \
		assert_passes(run, promise##_body, NULL); \
	} \
	static void \
	promise##_body(void *unused __attribute__((unused)))

/* The same for each number below count. */
#define TEST_EACH_IN_NETNS(promise, count) \
	static void promise##_body(int number); \
	static void \
	promise##_by_number(void *number) \
	{ \
		promise##_body(*(int *) number); \
	} \
	static void \
	promise(void **state) \
	{ \
		(void) state; \
		for (int i = 0; i < (int) (count); i++) \
			assert_passes(run_in_netns, promise##_by_number, &i); \
	} \
	static void \
	promise##_body(int number)

/* For a cmocka test that runs a body with several arguments. */
#define assert_passes_in_netns(body, argument) \
	assert_passes(run_in_netns, body, argument)

#define assert_passes(run, body, argument) \
	do { \
		char		child_message[CHILD_MESSAGE_SIZE]; \
		\
		switch (run((body), (argument), child_message)) \
		{ \
			case CHILD_PASSED: \
				break; \
			case CHILD_FAILED: \
				fail_msg("%s", child_message); \
				break; \
			case CHILD_SKIPPED: \
				print_message("# SKIP %s\n", child_message); \
				skip(); \
		} \
	} while (0)

#define test(name) cmocka_unit_test(name)

#define run_all(...) \
	cmocka_run_group_tests_name(__FILE__, \
		((const struct CMUnitTest[]) {__VA_ARGS__}), NULL, NULL)

#endif							/* TEST_H */
