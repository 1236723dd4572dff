/*
 * port_choice.c
 *		Which ports are given: those of the host's ephemeral range as it is
 *		now, never a reserved one, odd offsets first. And what happens
 *		where the range cannot be read.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

/* The number of calls in all small ranges together. */
#define CALLS 10000

/* A range, a list of reserved ports, and how many ports that leaves. */
typedef struct Range
{
	int			port_min;
	int			port_max;
	const char *reserved;
	int			usable;
} Range;

static const Range small_ranges[] = {
	{40000, 40063, "", 64},
	{40001, 40064, "", 64},
	{40000, 40062, "", 63},
	{40001, 40063, "", 63},
	{40000, 40200, "", 201},
	{40000, 40000, "", 1},
	{40001, 40001, "", 1},
	{40000, 40001, "", 2},
	{40001, 40002, "", 2},
	{65535, 65535, "", 1},
	{65534, 65535, "", 2},
	{65400, 65535, "", 136},
	{40000, 40063, "40000", 63},
	{40000, 40063, "40063", 63},
	{40001, 40064, "40001,40064", 62},
	{40000, 40063, "39000-40000,40063-50000", 62},
	{40000, 40200, "40001,40003,40010-40099,40200", 108},
	{40000, 40003, "40000,40002", 2},
	{40000, 40003, "40001,40003", 2},
	{40001, 40003, "40002-40003", 1},
	{65500, 65535, "65510-65520,65535", 24},
	{65534, 65535, "65534", 1},
	{65534, 65535, "65535", 1},
	{40000, 40063, "1-39999,40064-65535", 64},
};

#define SMALL_RANGES (sizeof(small_ranges) / sizeof(*small_ranges))

/* The list in the kernel's notation: singles and spans, with commas. */
static void
remove_reserved(Ports *ports, const char *list)
{
	while (*list != '\0')
	{
		char	   *end;
		long		first = strtol(list, &end, 10);
		long		last = *end == '-' ? strtol(end + 1, &end, 10) : first;

		for (long port = first; port <= last; port++)
			ports->has[port] = false;
		list = *end == ',' ? end + 1 : end;
	}
}

static void
require_ports(const Range *range, const Ports *allowed)
{
	int			calls = CALLS / (int) SMALL_RANGES + 1;
	IcListenerReport report;
	Ports		taken;
	Call		last;
	int			count;

	/* One at a time. */
	for (int call = 0; call < calls; call++)
	{
		Call		listener = require_listener(NULL);

		require(allowed->has[listener.port], "port %d came, range %d-%d",
				listener.port, range->port_min, range->port_max);
		close(listener.fd);
	}

	/* Held at once: every port can be reached. */
	count = take_all_ports(NULL, &taken, &last);
	require(memcmp(&taken, allowed, sizeof(taken)) == 0,
			"other ports of %d-%d came than those not reserved",
			range->port_min, range->port_max);
	require(count == range->usable, "%d ports of %d-%d", count,
			range->port_min, range->port_max);
	report = last.report;
	require(report.ports_tried == (uint32_t) range->usable &&
			report.ports_in_use == (uint32_t) range->usable, "%s",
			report.message);
}

static void
take_range(void *argument)
{
	const Range *range = argument;
	Ports		allowed = ports_from_to(range->port_min, range->port_max);

	set_port_range(range->port_min, range->port_max);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%s", range->reserved);
	remove_reserved(&allowed, range->reserved);
	require_ports(range, &allowed);
}

static void
small_ranges_are_given_whole_without_reserved_ports(void **state)
{
	(void) state;
	for (size_t index = 0; index < SMALL_RANGES; index++)
		assert_passes_in_netns(take_range, (void *) &small_ranges[index]);
}

static void
find_all_reserved(void *unused)
{
	Call		call;

	(void) unused;
	set_port_range(40000, 40003);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40000-40003");
	call = open_listener(NULL);
	require(call.returned == -1 && call.error == EADDRINUSE,
			"returned %d with errno %d", call.returned, call.error);
	require(call.report.ports_tried == 0 && strcmp(call.report.message,
				   "no port to listen on in 40000-40003: all of them are reserved") == 0,
			"%s", call.report.message);
}

static void
a_range_that_is_reserved_whole_gives_none(void **state)
{
	(void) state;
	assert_passes_in_netns(find_all_reserved, NULL);
}

/*
 * Every second port is reserved, which the kernel cannot print as spans: so
 * many of four digits, and so many of five up to 40062. Each takes 5 or 6
 * bytes in /proc with its comma or newline.
 */
typedef struct LongList
{
	int			four_digits;
	int			five_digits;
} LongList;

static void
take_between_reserved(const char *reserved, int usable)
{
	Range		range = {40000, 40063, reserved, usable};
	Ports		allowed = ports_from_to(range.port_min, range.port_max);

	set_port_range(range.port_min, range.port_max);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%s", reserved);
	remove_reserved(&allowed, reserved);
	require_ports(&range, &allowed);
}

static void
take_beside_a_long_list(void *argument)
{
	const LongList *list = argument;
	char		reserved[128 * 1024];
	int			length = 0;

	for (int index = 0; index < list->four_digits; index++)
		length += sprintf(reserved + length, "%d,", 2000 + 2 * index);
	for (int index = list->five_digits - 1; index >= 0; index--)
		length += sprintf(reserved + length, "%d,", 40062 - 2 * index);
	require(length == 5 * list->four_digits + 6 * list->five_digits,
			"%d bytes", length);
	reserved[length - 1] = '\0';
	take_between_reserved(reserved, 32);
}

/* Two ports of three: the longest list there is, nearly 256 KiB. */
static void
take_beside_the_longest_list(void *unused)
{
	char		reserved[256 * 1024];
	int			length = 0;

	(void) unused;
	for (int port = 1; port < 65535; port += 3)
		length += sprintf(reserved + length, "%d-%d,", port, port + 1);
	reserved[length - 1] = '\0';
	take_between_reserved(reserved, 21);
}

static void
long_lists_of_reserved_ports_are_read_whole(void **state)
{
	/* 2047, 2048 and 2049 bytes, around the library's buffer; 98 KB. */
	LongList	lists[] = {{5, 337}, {4, 338}, {3, 339}, {4000, 13000}};

	(void) state;
	for (size_t index = 0; index < sizeof(lists) / sizeof(*lists); index++)
		assert_passes_in_netns(take_beside_a_long_list, &lists[index]);
	assert_passes_in_netns(take_beside_the_longest_list, NULL);
}

/*
 * A call looks at PARITY_BLOCK odd offsets before an even one. In a small range
 * the first few calls must find an odd one in any order. In a large range they
 * must too: the eight are never all among the few that are held.
 */
static void
take_odd_offsets_first(void *argument)
{
	const Range *range = argument;
	int			calls = range->port_max - range->port_min < 100 ? 8 : 500;

	set_port_range(range->port_min, range->port_max);
	for (int count = 0; count < calls; count++)
	{
		Call		call = require_listener(NULL);

		require((call.port - range->port_min) % 2 == 1,
				"call %d took offset %d", count, call.port - range->port_min);
	}
}

static void
odd_offsets_come_first(void **state)
{
	Range		ranges[] = {
		{.port_min = 40000,.port_max = 40063},
		{.port_min = 40001,.port_max = 40064},
		{.port_min = 32768,.port_max = 60999},
		{.port_min = 10001,.port_max = 30000}
	};

	(void) state;
	for (size_t index = 0; index < sizeof(ranges) / sizeof(*ranges); index++)
		assert_passes_in_netns(take_odd_offsets_first, &ranges[index]);
}

static void
follow_the_administrator(void *unused)
{
	(void) unused;
	set_port_range(40000, 40063);
	for (int call = 0; call < 3; call++)
		require_listener(NULL);
	set_port_range(50000, 50003);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "50001-50003");

	/* A change counts after a second at the latest. */
	sleep(1);
	require(require_listener(NULL).port == 50000, "an old port");
}

static void
a_change_of_the_range_counts_within_a_second(void **state)
{
	(void) state;
	assert_passes_in_netns(follow_the_administrator, NULL);
}

static void
pass_over_privileged_ports(void *unused)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Ports		unprivileged = ports_from_to(1024, 1100);
	Ports		taken;
	Call		call;
	int			count;

	(void) unused;
	set_sysctl("net.ipv4.ip_unprivileged_port_start", "1024");
	drop_privileges();
	options.port_min = 1000;
	options.port_max = 1100;
	count = take_all_ports(&options, &taken, &call);
	require(count == 77 &&
			memcmp(&taken, &unprivileged, sizeof(taken)) == 0,
			"%d ports, or others than 1024-1100", count);
	require(call.report.step == IC_LISTENER_STEP_BIND &&
			call.report.ports_tried == 101 &&
			call.report.ports_forbidden == 24 &&
			call.report.ports_in_use == 77 && call.report.listens_lost == 0,
			"%s", call.report.message);
	require(strcmp(call.report.message, "no port to listen on in 1000-1100: "
				   "101 tried, 77 in use, 24 forbidden; "
				   "in use: 77 listeners") == 0, "%s",
			call.report.message);

	options.port_max = 1023;
	call = open_listener(&options);
	require(call.returned == -1 && call.error == EACCES,
			"returned %d with errno %d", call.returned, call.error);
	require(call.report.ports_tried == 24 &&
			call.report.ports_forbidden == 24 && call.report.ports_in_use == 0,
			"%s", call.report.message);
}

static void
ports_that_need_privilege_are_passed_over(void **state)
{
	(void) state;
	assert_passes_in_netns(pass_over_privileged_ports, NULL);
}

static void
hide_proc(void)
{
	mount_empty_over("/proc");
}

static void
hide_proc_sys(void)
{
	mount_empty_over("/proc/sys");
}

/* As container runtimes mask a file: it is readable, and empty. */
static void
mask(const char *file)
{
	require(mount("/dev/null", file, NULL, MS_BIND, NULL) == 0,
			"/dev/null on %s: %s", file, strerror(errno));
}

static void
mask_port_range(void)
{
	mask("/proc/sys/net/ipv4/ip_local_port_range");
}

static void
mask_reserved_ports(void)
{
	mask("/proc/sys/net/ipv4/ip_local_reserved_ports");
}

/* Only the range is left. */
static void
leave_only_the_port_range(void)
{
	const char *file = "/proc/sys/net/ipv4/ip_local_port_range";
	int			fd;

	mount_empty_over("/proc/sys/net/ipv4");
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	require(fd >= 0 && write(fd, "40000\t40063\n", 12) == 12, "%s: %s", file,
			strerror(errno));
	close(fd);
}

typedef struct Hiding
{
	void		(*hide) (void);
	const char *message;		/* when no port is left */
} Hiding;

/*
 * The kernel still knows the range and its reserved ports, and gives all the
 * rest.
 */
static void
let_the_kernel_pick(void *argument)
{
	const Hiding *hiding = argument;
	Ports		allowed = ports_from_to(40000, 40063);
	Ports		taken = {.has = {false}};
	Call		call;

	set_port_range(40000, 40063);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40003,40010-40020");
	remove_reserved(&allowed, "40003,40010-40020");
	enter_mount_namespace();
	hiding->hide();
	for (int count = 0; count < 52; count++)
	{
		call = require_listener(NULL);
		require(call.report.origin != IC_LISTENER_PORT_ORIGIN_REUSED,
				"%s", call.report.message);
		require(allowed.has[call.port] && !taken.has[call.port], "port %d",
				call.port);
		require(call.report.port_min == 0 && call.report.port_max == 0,
				"range %d-%d", call.report.port_min, call.report.port_max);
		taken.has[call.port] = true;
	}
	call = open_listener(NULL);
	require(call.returned == -1 && call.error == EADDRINUSE,
			"returned %d with errno %d", call.returned, call.error);
	require(call.report.step == IC_LISTENER_STEP_BIND &&
			strcmp(call.report.message, hiding->message) == 0, "%s",
			call.report.message);
}

#define CANNOT_BE_READ(file, why) \
	"no port to listen on: /proc/sys/net/ipv4/" file " cannot be read (" why \
	"), and the kernel found no port"

static void
the_kernel_picks_where_proc_is_hidden(void **state)
{
	const char *missing = CANNOT_BE_READ("ip_local_port_range",
										 "No such file or directory");
	Hiding		all = {hide_proc, missing};
	Hiding		sys = {hide_proc_sys, missing};

	(void) state;
	assert_passes_in_netns(let_the_kernel_pick, &all);
	assert_passes_in_netns(let_the_kernel_pick, &sys);
}

static void
the_kernel_picks_where_the_port_range_is_hidden(void **state)
{
	Hiding		range = {mask_port_range,
	CANNOT_BE_READ("ip_local_port_range", "hidden")};

	(void) state;
	assert_passes_in_netns(let_the_kernel_pick, &range);
}

static void
the_kernel_picks_where_reserved_ports_are_masked(void **state)
{
	Hiding		list = {mask_reserved_ports,
	CANNOT_BE_READ("ip_local_reserved_ports", "hidden")};

	(void) state;
	assert_passes_in_netns(let_the_kernel_pick, &list);
}

/*
 * The kernel still obeys the list, as long as it picks the ports. Then ports
 * are named, reserved ones too; before Linux 6.3 from the start.
 */
static void
take_all_ports_without_a_list(void *unused)
{
	Ports		all = ports_from_to(40000, 40063);
	Ports		allowed = all;
	Ports		taken = {.has = {false}};
	int			of_the_kernel = kernel_has_windows() ? 52 : 0;

	(void) unused;
	set_port_range(40000, 40063);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40003,40010-40020");
	remove_reserved(&allowed, "40003,40010-40020");
	enter_mount_namespace();
	leave_only_the_port_range();
	for (int count = 0; count < 64; count++)
	{
		Call		call = require_listener(NULL);

		require(count >= of_the_kernel || allowed.has[call.port], "port %d",
				call.port);
		require(!taken.has[call.port], "port %d twice", call.port);
		taken.has[call.port] = true;
	}
	require(memcmp(&taken, &all, sizeof(all)) == 0, "not all ports");
}

/*
 * Linux 3.10 has the list in the first network namespace only. In a container
 * it cannot be obeyed.
 */
static void
a_missing_list_reserves_nothing(void **state)
{
	(void) state;
	assert_passes_in_netns(take_all_ports_without_a_list, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_ranges_are_given_whole_without_reserved_ports),
		cmocka_unit_test(a_range_that_is_reserved_whole_gives_none),
		cmocka_unit_test(long_lists_of_reserved_ports_are_read_whole),
		cmocka_unit_test(odd_offsets_come_first),
		cmocka_unit_test(a_change_of_the_range_counts_within_a_second),
		cmocka_unit_test(ports_that_need_privilege_are_passed_over),
		cmocka_unit_test(the_kernel_picks_where_proc_is_hidden),
		cmocka_unit_test(the_kernel_picks_where_the_port_range_is_hidden),
		cmocka_unit_test(the_kernel_picks_where_reserved_ports_are_masked),
		cmocka_unit_test(a_missing_list_reserves_nothing),
	};

	return cmocka_run_group_tests_name("port_choice", tests, NULL, NULL);
}
