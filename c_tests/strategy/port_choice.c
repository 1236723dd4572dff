/*
 * port_choice.c
 *		Which ports are given: those of the host's ephemeral range as it is
 *		now, never a reserved one, odd offsets first; what happens where the
 *		range cannot be read; and that a listener is alone on its port.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
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
	if (range->usable == 0)
		expect_in(last.report.message, "in 40000-40003: all of them are reserved");
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
	static const int parities[][2] = {{40000, 40063}, {40001, 40064}, {32768, 60999}};

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

static void
hide_proc(void)
{
	mount_empty_over("/proc");
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

/* Then nothing is reserved. */
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
	const char *reserved;
	int			usable;
	IcListenerPortOrigin origin;
	const char *message[2];
} Hiding;

static void
let_the_kernel_pick(void *argument)
{
	const Hiding *hiding = argument;
	Ports		allowed = ports_from_to(40000, 40063);
	Ports		taken;
	Call		last;

	set_port_range(40000, 40063);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40003,40010-40020");
	remove_reserved(&allowed, hiding->reserved);
	enter_mount_namespace();
	hiding->hide();
	/* The first call finds out. */
	close(require_listener(NULL).fd);
	last = require_listener(NULL);
	if (kernel_has_windows())
		expect_equal(last.report.origin, hiding->origin);
	close(last.fd);
	expect_equal(take_all_ports(&tcp, NULL, &taken, &last), hiding->usable);
	expect(memcmp(&taken, &allowed, sizeof(taken)) == 0);
	expect_equal(last.report.port_min, hiding->usable == 64 ? 40000 : 0);
	for (int i = 0; i < 2; i++)
		expect_in(last.report.message, hiding->message[i]);
}

static void
where_proc_is_hidden_the_kernel_picks(void **state)
{
	static const char reserved[] = "40003,40010-40020";
	static const Hiding hidings[] = {
		{hide_proc, reserved, 52, IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL,
		{"ip_local_port_range", "No such file or directory"}},
		{mask_port_range, reserved, 52, IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL,
		{"ip_local_port_range", "hidden"}},
		{mask_reserved_ports, reserved, 52, IC_LISTENER_PORT_ORIGIN_FREE,
		{"ip_local_reserved_ports", "hidden"}},
		{leave_only_the_port_range, "", 64, IC_LISTENER_PORT_ORIGIN_FREE,
		{"in 40000-40063", "64 in use"}},
	};

	(void) state;
	for (size_t i = 0; i < lengthof(hidings); i++)
		assert_passes_in_netns(let_the_kernel_pick, (void *) &hidings[i]);
}

/* A thread in its own network namespace, with ports from port_min. */
typedef struct Namespace
{
	int			port_min;
	pthread_barrier_t *barrier;
} Namespace;

static void *
stay_in_own_range(void *argument)
{
	const Namespace *mine = argument;
	const int	port_max = mine->port_min + 999;
	const char *missing = enter_netns();
	Ports		allowed = ports_from_to(mine->port_min, port_max);
	Ports		taken;
	Call		call;

	if (missing != NULL)
		skip_child("%s", missing);
	set_port_range(mine->port_min, port_max);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d", mine->port_min + 1);
	allowed.has[mine->port_min + 1] = false;
	pthread_barrier_wait(mine->barrier);
	for (int i = 0; i < 2000; i++)
	{
		call = open_socket(kinds[i % 2], NULL);
		require(call.returned == 0 && allowed.has[call.port], "port %d, of %d-%d",
				call.port, mine->port_min, port_max);
		close(call.fd);
		sched_yield();
	}
	expect_equal(take_all_ports(&tcp, NULL, &taken, &call), 999);
	expect(memcmp(&taken, &allowed, sizeof(taken)) == 0);
	return NULL;
}

TEST(threads_in_two_namespaces_stay_apart)
{
	pthread_barrier_t barrier;
	Namespace	namespaces[] = {{20000, &barrier}, {20500, &barrier}};
	pthread_t	threads[2];

	allow_descriptors(4096);
	pthread_barrier_init(&barrier, NULL, 2);
	for (int i = 0; i < 2; i++)
		expect(pthread_create(&threads[i], NULL, stay_in_own_range,
							  &namespaces[i]) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
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

/* Listens on the IPv6 wildcard with SO_REUSEPORT, bound to lo if wanted. */
static int
join_with_reuseport(int port, bool only_v6, bool on_lo)
{
	int			fd = stream_socket("::");

	set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, only_v6);
	set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (on_lo)
		expect(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
	if (plain_bind(fd, "::", port) == 0 && listen(fd, 8) == 0)
		return fd;
	close(fd);
	return -1;
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
	for (size_t i = 0; i < lengthof(cases) * 2; i++)
	{
		Call		call;
		int			rivals[2];

		now_doing("%s, SO_BINDTODEVICE %d", cases[i / 2].address, (int) (i % 2));
		options.address = cases[i / 2].address;
		call = require_listener(&options);
		rivals[0] = join_with_reuseport(call.port, true, false);
		rivals[1] = join_with_reuseport(call.port, false, i % 2);
		expect_equal(rivals[0] >= 0, cases[i / 2].joined);
		expect_equal(rivals[1] >= 0, cases[i / 2].joined);
		for (int j = 0; j < 2 && cases[i / 2].reached_at[j] != NULL; j++)
			reach(call.fd, cases[i / 2].reached_at[j]);
		close(rivals[0]);
		close(rivals[1]);
		close(call.fd);
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
		test(threads_in_two_namespaces_stay_apart),
		test(nobody_joins_a_listener),
		test(a_pair_with_so_reuseport_takes_no_connection));
}
