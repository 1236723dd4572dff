/*
 * port_choice.c
 *		Which ports are given: those of the host's ephemeral range as it is
 *		now, never a reserved one, odd offsets first; what happens where the
 *		range cannot be read; and that a listener is alone on its port.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

/* A range, a list of reserved ports, and how many ports that leaves. */
typedef struct Range
{
	int			port_min;
	int			port_max;
	const char *reserved;
	int			usable;
} Range;

static const Range ranges[] = {
	{40000, 40063, "", 64},
	{40001, 40200, "", 200},
	{40000, 40000, "", 1},
	{65534, 65535, "65534", 1},
	{40000, 40063, "39000-40000,40063-50000", 62},
	{40000, 40200, "40001,40003,40010-40099,40200", 108},
	{40000, 40003, "40001,40003", 2},
	{40000, 40063, "1-39999,40064-65535", 64},
	{40000, 40003, "40000-40003", 0},
};

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
take_range(void *argument)
{
	const Range *range = argument;
	int			ports = range->port_max - range->port_min + 1;
	Ports		allowed = ports_from_to(range->port_min, range->port_max);
	Ports		taken;
	Call		last;

	now_doing("%d-%d without %.60s", range->port_min, range->port_max,
			  range->reserved);
	set_port_range(range->port_min, range->port_max);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%s", range->reserved);
	remove_reserved(&allowed, range->reserved);

	/* One at a time, and then held at once: every port can be reached. */
	for (int i = 0; range->usable > 0 && i < 300; i++)
	{
		Call		call = require_listener(NULL);

		require(allowed.has[call.port], "port %d came", call.port);
		close(call.fd);
	}
	expect_equal(take_all_ports(&tcp, NULL, &taken, &last), range->usable);
	expect(memcmp(&taken, &allowed, sizeof(taken)) == 0);
	expect_equal(last.report.ports_tried, range->usable);
	expect_equal(last.report.ports_in_use, range->usable);
	expect_equal(last.report.ports_reserved, ports - range->usable);
}

static void
a_range_is_given_whole_without_its_reserved_ports(void **state)
{
	(void) state;
	for (size_t i = 0; i < lengthof(ranges); i++)
		assert_passes_in_netns(take_range, (void *) &ranges[i]);
}

/*
 * Every second port is reserved, which the kernel cannot print as spans: each
 * takes 5 or 6 bytes in /proc with its comma or newline.
 */
static void
long_lists_of_reserved_ports_are_read_whole(void **state)
{
	/* 511, 512 and 513 bytes, around the library's buffer. */
	static const int lists[][2] = {{5, 81}, {4, 82}, {3, 83}};
	static char reserved[256 * 1024];
	Range		range = {40000, 40063, reserved, 32};
	int			length;

	(void) state;
	for (size_t i = 0; i < lengthof(lists); i++)
	{
		length = 0;
		for (int j = 0; j < lists[i][0]; j++)
			length += sprintf(reserved + length, "%d,", 2000 + 2 * j);
		for (int j = lists[i][1] - 1; j >= 0; j--)
			length += sprintf(reserved + length, "%d,", 40062 - 2 * j);
		reserved[length - 1] = '\0';
		assert_passes_in_netns(take_range, &range);
	}

	/* Two ports of three: the longest list there is, nearly 256 KiB. */
	length = 0;
	for (int port = 1; port < 65535; port += 3)
		length += sprintf(reserved + length, "%d-%d,", port, port + 1);
	reserved[length - 1] = '\0';
	range.usable = 21;
	assert_passes_in_netns(take_range, &range);
}

static void
take_odd_offsets(void *argument)
{
	const int  *range = argument;

	set_port_range(range[0], range[1]);
	for (int i = 0; i < 30; i++)
	{
		int			offset = require_listener(NULL).port - range[0];

		require(offset % 2 == 1, "call %d took offset %d", i, offset);
	}
}

static void
odd_offsets_come_first(void **state)
{
	static const int parities[][2] = {{40000, 40127}, {40001, 40128}, {32768, 60999}};

	(void) state;
	for (size_t i = 0; i < lengthof(parities); i++)
		assert_passes_in_netns(take_odd_offsets, (void *) parities[i]);
}

TEST_IN_NETNS(a_change_of_the_range_counts_at_once)
{
	set_port_range(40000, 40063);
	for (int call = 0; call < 3; call++)
		require_listener(NULL);
	set_port_range(50000, 50003);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "50001-50003");
	expect_equal(require_listener(NULL).port, 50000);
}

/*
 * /proc is hidden. The kernel still knows the range and its reserved ports.
 */

#define RANGE_FILE "/proc/sys/net/ipv4/ip_local_port_range"
#define RESERVED_FILE "/proc/sys/net/ipv4/ip_local_reserved_ports"

static void
let_the_kernel_pick(void *argument)
{
	static const char reserved[] = "40003,40010-40020";
	/* As container runtimes mask a file: it is readable, and empty. */
	const char *masked = argument;
	bool		knows_range = masked != NULL && strcmp(masked, RESERVED_FILE) == 0;
	Ports		allowed = ports_from_to(40000, 40063);
	Ports		taken;
	Call		last;

	set_port_range(40000, 40063);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%s", reserved);
	remove_reserved(&allowed, reserved);
	enter_mount_namespace();
	if (masked == NULL)
		mount_empty_over("/proc");
	else
		expect(mount("/dev/null", masked, NULL, MS_BIND, NULL) == 0);
	/* The first call finds out. */
	close(require_listener(NULL).fd);
	last = require_listener(NULL);
	if (kernel_has_windows())
		expect_equal(last.report.origin, knows_range ? IC_LISTENER_PORT_ORIGIN_FREE :
					 IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL);
	close(last.fd);
	expect_equal(take_all_ports(&tcp, NULL, &taken, &last), 52);
	expect(memcmp(&taken, &allowed, sizeof(taken)) == 0);
	expect_equal(last.report.port_min, 0);
	expect_in(last.report.message, knows_range ? RESERVED_FILE : RANGE_FILE);
}

static void
where_proc_is_hidden_the_kernel_picks(void **state)
{
	static const char *const masked[] = {NULL, RANGE_FILE, RESERVED_FILE};

	(void) state;
	for (size_t i = 0; i < lengthof(masked); i++)
		assert_passes_in_netns(let_the_kernel_pick, (void *) masked[i]);
}

/* Only the list is missing: then nothing is reserved, and ports are named. */
TEST_IN_NETNS(without_a_list_nothing_is_reserved)
{
	int			fd;

	crowd(40000, 40000);
	enter_mount_namespace();
	mount_empty_over("/proc/sys/net/ipv4");
	fd = open(RANGE_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	expect(write(fd, "40000\t40000\n", 12) == 12);
	close(fd);
	expect_equal(require_listener(NULL).report.origin, IC_LISTENER_PORT_ORIGIN_REUSED);
}

/*
 * A listener is alone on its port, whatever socket tries to join it.
 */

static void
try_to_join(int port, const char *who)
{
	static const Neighbour addresses[] = {
		{.address = "::"}, {.address = "::", .only_v6 = true},
		{.address = "::1"}, {.address = "::ffff:0.0.0.0"},
		{.address = "::ffff:127.0.0.1"}, {.address = "0.0.0.0"},
		{.address = "127.0.0.1"}, {.address = "127.0.0.2"},
	};

	for (size_t i = 0; i < lengthof(addresses) * 4; i++)
	{
		Neighbour	rival = addresses[i / 4];

		rival.reuse_address = i & 1;
		rival.reuse_port = i & 2;
		rival.listens = true;
		require(open_neighbour(&rival, port) < 0 && errno == EADDRINUSE,
				"%s joined port %d on %s, v6only %d, SO_REUSEADDR %d, "
				"SO_REUSEPORT %d (errno %d)", who, port, rival.address,
				rival.only_v6, rival.reuse_address, rival.reuse_port, errno);
	}
}

/* A free port and a shared one; also with connections and TIME_WAITs. */
TEST_IN_NETNS(nobody_joins_a_listener)
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true};
	Ports		bound = ports_from_to(40000, 40000);

	skip_without_ipv6();
	set_port_range(40000, 40001);
	hold_ports(&neighbour, &bound);
	for (int i = 0; i < 2; i++)
	{
		Call		call = require_listener(NULL);
		int			child;

		expect_equal(call.report.origin, i == 0 ? IC_LISTENER_PORT_ORIGIN_FREE :
					 IC_LISTENER_PORT_ORIGIN_REUSED);
		try_to_join(call.port, "the same user");
		leave_time_wait(call.fd, "127.0.0.1");
		leave_time_wait(call.fd, "::1");
		try_to_join(call.port, "the same user");
		child = fork_child();
		if (child == 0)
		{
			if (!become_another_user())
				skip_child("another user: run as root");
			try_to_join(call.port, "another user");
			_exit(0);
		}
		wait_for_child(child);
	}
}

/*
 * Linux lets a second socket join a first one with SO_REUSEPORT of the same
 * user, and does not check who else has the port. Where ours takes IPv4 only,
 * the first is not in its way. Ours keeps its connections.
 */
TEST_IN_NETNS(a_pair_with_so_reuseport_takes_no_connection)
{
	static const struct
	{
		const char *address;
		bool		joined;
		const char *reached_at[2];
	}			cases[] = {
		{NULL, false, {"127.0.0.1", "::1"}},
		{"::", false, {"127.0.0.1", "::1"}},
		{"127.0.0.1", true, {"127.0.0.1"}},
		{"::ffff:127.0.0.1", true, {"127.0.0.1"}},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	skip_without_ipv6();
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		Neighbour	rival = {"::", .reuse_port = true, .only_v6 = true, .listens = true};
		Call		call;

		now_doing("%s", cases[i].address);
		options.address = cases[i].address;
		call = require_listener(&options);
		expect_equal(open_neighbour(&rival, call.port) >= 0, cases[i].joined);
		rival.only_v6 = false;
		expect_equal(open_neighbour(&rival, call.port) >= 0, cases[i].joined);
		for (int j = 0; j < 2 && cases[i].reached_at[j] != NULL; j++)
			reach(call.fd, cases[i].reached_at[j]);
	}
}

int
main(void)
{
	return run_all(
		test(a_range_is_given_whole_without_its_reserved_ports),
		test(long_lists_of_reserved_ports_are_read_whole),
		test(odd_offsets_come_first),
		test(a_change_of_the_range_counts_at_once),
		test(where_proc_is_hidden_the_kernel_picks),
		test(without_a_list_nothing_is_reserved),
		test(nobody_joins_a_listener),
		test(a_pair_with_so_reuseport_takes_no_connection));
}
