/*
 * netns.h
 *		Tests in network namespaces of their own, and processes that start at
 *		one moment.
 *
 * The library remembers the host's port range for 100 ms in a process, so
 * whatever changes the namespace or the range has to be another process than
 * the one that calls the library next: run_in_netns() and run_at_once() fork.
 */
#ifndef NETNS_H
#define NETNS_H

#include <stdbool.h>
#include <stddef.h>

#define NETNS_MESSAGE_SIZE 512

typedef enum NetnsOutcome
{
	NETNS_PASSED,
	NETNS_FAILED,
	NETNS_NOT_AVAILABLE,		/* a SKIP; the message says what is missing */
} NetnsOutcome;

/*
 * Calls body(argument) in a forked child in a fresh network namespace with lo
 * up. The child passes when body returns; require() makes it fail. Its
 * message, "" when it passed, is in *message. A child that takes longer than
 * a minute fails; processes it leaves behind with fork_child() are killed.
 */
extern NetnsOutcome run_in_netns(void (*body) (void *argument), void *argument,
								 char message[NETNS_MESSAGE_SIZE]);

/*
 * The same as a line of a cmocka test: include <cmocka.h> first.
 */
#define assert_passes_in_netns(body, argument) \
	do { \
		char		netns_message[NETNS_MESSAGE_SIZE]; \
		\
		switch (run_in_netns((body), (argument), netns_message)) \
		{ \
			case NETNS_PASSED: \
				break; \
			case NETNS_FAILED: \
				fail_msg("%s", netns_message); \
				break; \
			case NETNS_NOT_AVAILABLE: \
				print_message("# SKIP %s\n", netns_message); \
				skip(); \
		} \
	} while (0)

/*
 * In any process below run_in_netns(): ends it, and with it the test, with
 * the message unless the condition holds. Elsewhere the message goes to
 * standard error.
 */
#define require(condition, ...) \
	((condition) ? (void) 0 : fail_child(__FILE__, __LINE__, __VA_ARGS__))

extern void fail_child(const char *file, int line, const char *format, ...)
			__attribute__((noreturn, format(printf, 3, 4)));

/*
 * In any process below run_in_netns(): ends the test as a SKIP.
 */
extern void skip_child(const char *format, ...)
			__attribute__((noreturn, format(printf, 1, 2)));

/*
 * Puts the calling process into a fresh network namespace with lo up; as an
 * ordinary user into a user namespace as well. Returns NULL, or what failed
 * and what would be needed.
 */
extern const char *enter_netns(void);

/*
 * Writes a sysctl of the calling process's network namespace: the name as
 * sysctl(8) takes it, "net.ipv4.ip_local_port_range". Returns false with errno
 * set. set_sysctl() requires it to succeed.
 */
extern bool write_sysctl(const char *name, const char *value);
extern void set_sysctl(const char *name, const char *format, ...)
			__attribute__((format(printf, 2, 3)));
extern void set_port_range(int port_min, int port_max);

/*
 * fork(), which has to work; the child is killed when its parent ends, and
 * ends when it crashes. Returns 0 in the child.
 */
extern int	fork_child(void);

/*
 * Waits for a child, which has to end with status 0.
 */
extern void wait_for_child(int pid);

/*
 * Forks that many processes, releases them together into body(), and copies
 * what each left in *result (zeros at first) to results[index]. None of them
 * ends, and so releases what it holds, before all have returned from body().
 */
extern void run_at_once(int processes,
						void (*body) (int index, void *result, void *argument),
						void *argument, void *results, size_t result_size);

/*
 * Inside body(): waits until all processes of run_at_once() are here.
 */
extern void wait_for_all(void);

#endif							/* NETNS_H */
