/*
 * sandbox.c
 *		Policies around the process: Landlock, programs of a cgroup, seccomp
 *		filters. They refuse some ports, or all names, or a family, or
 *		change the port. And too few descriptors.
 *
 * Landlock is the kernel's own here. What programs of a cgroup do to bind() is
 * done by the linker's --wrap: BPF_CGROUP_INET4_BIND and its like.
 */
#define _GNU_SOURCE

#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

#define PORT_MIN 40000
#define SMALL_MAX 40063
#define LARGE_MAX 40999
#define PERMITTED (PORT_MIN + 17)
#define REWRITTEN 45678

extern int	__real_bind(int fd, const struct sockaddr *address, socklen_t length);
extern int	__real_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t length);

/*
 * What a program of a cgroup permits. Linux 5.10 to 5.16 leave a socket bound
 * when the port is refused late.
 */
static enum
{
	ALL, ONE_PORT, ONE_PORT_LATE, PORT_0, NAMES, IPV4
}			permitted;

static bool rewrites;			/* all ports to REWRITTEN */
static bool no_windows;			/* as before Linux 6.3; set by main() */
static int	bind_calls;

static bool
permits(int family, int port)
{
	return permitted == ONE_PORT ? port == PERMITTED :
		permitted == PORT_0 ? port == 0 :
		permitted == NAMES ? port != 0 :
		permitted == IPV4 ? family == AF_INET : true;
}

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	struct sockaddr_in6 in = {.sin6_family = AF_UNSPEC};

	bind_calls++;
	if (address->sa_family != AF_INET && address->sa_family != AF_INET6)
		return __real_bind(fd, address, length);
	memcpy(&in, address, length < sizeof(in) ? length : sizeof(in));
	if (!permits(in.sin6_family, ntohs(in.sin6_port)))
	{
		errno = EPERM;
		return -1;
	}
	if (rewrites)
		in.sin6_port = htons(REWRITTEN);
	if (__real_bind(fd, (struct sockaddr *) &in, length) != 0)
		return -1;
	if (permitted != ONE_PORT_LATE || local_port(fd) == PERMITTED)
		return 0;
	errno = EPERM;
	return -1;
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	if (!no_windows || level != IPPROTO_IP || name != IP_LOCAL_PORT_RANGE)
		return __real_setsockopt(fd, level, name, value, length);
	errno = ENOPROTOOPT;
	return -1;
}

/*
 * From now on bind() must leave TCP ports to the kernel. linux/landlock.h of
 * many distributions lacks the rules for ports.
 */
static void
permit_port_0_only(void)
{
	/* LANDLOCK_ACCESS_NET_BIND_TCP: of the file system, and of the network. */
	const uint64_t handled[] = {0, 1};
	const uint64_t rule[] = {1, 0};
	int			ruleset = syscall(SYS_landlock_create_ruleset, handled, sizeof(handled), 0);

	if (ruleset < 0)
		skip_child("Landlock with rules for ports: Linux 6.7 or later with "
				   "\"landlock\" in the lsm= of its command line");
	expect(syscall(SYS_landlock_add_rule, ruleset, 2, rule, 0) == 0);
	expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	expect(syscall(SYS_landlock_restrict_self, ruleset, 0) == 0);
	close(ruleset);
}

TEST_IN_NETNS(only_port_0_is_permitted)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Call		call;

	set_port_range(PORT_MIN, LARGE_MAX);
	permit_port_0_only();
	for (int round = 0; round < 10; round++)
	{
		bind_calls = 0;
		call = require_listener(NULL);
		expect(PORT_MIN <= call.port && call.port <= LARGE_MAX);
		/* A policy is not asked a thousand times. */
		require(bind_calls <= 34, "%d times bind()", bind_calls);
	}

	/* Named ports are not exchanged for what the kernel would pick. */
	options.port_min = PORT_MIN;
	options.port_max = SMALL_MAX;
	call = open_listener(&options);
	expect_failed(&call, EACCES);
	expect_equal(call.report.ports_forbidden, 64);
}

/* Both kinds, on the host's range and on a named one; each gets the port. */
static void
open_at(int port, int named_min, int named_max)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	for (int i = 0; i < 4; i++)
	{
		OpenFds		before = open_fds();
		Call		call;

		now_doing("%s, named %d", kinds[i % 2]->name, i / 2);
		options.port_min = i / 2 ? named_min : 0;
		options.port_max = i / 2 ? named_max : 0;
		call = open_socket(kinds[i % 2], &options);
		require(call.returned == 0, "%s", call.report.message);
		expect_equal(call.port, port);
		expect_equal(call.port, local_port(call.fd));
		expect(open_fds_are(&before, call.fd));
		expect_equal(open_socket(kinds[i % 2], &options).error, EADDRINUSE);
		expect(open_fds_are(&before, call.fd));
		close(call.fd);
	}
}

TEST_IN_NETNS(a_hook_changes_the_port)
{
	rewrites = true;
	set_port_range(PORT_MIN, LARGE_MAX);
	open_at(REWRITTEN, 7000, 7099);
}

/* Refused before it is bound, and after. */
TEST_IN_NETNS(a_hook_permits_one_port)
{
	set_port_range(PORT_MIN, SMALL_MAX);
	permitted = ONE_PORT;
	open_at(PERMITTED, PORT_MIN, SMALL_MAX);
	permitted = ONE_PORT_LATE;
	open_at(PERMITTED, PORT_MIN, SMALL_MAX);
}

/* The kernel says EPERM, where Landlock says EACCES. UDP has the hooks too. */
TEST_IN_NETNS(a_hook_permits_port_0_only_or_names_only)
{
	set_port_range(PORT_MIN, SMALL_MAX);
	for (int i = 0; i < 4; i++)
	{
		Call		call;

		permitted = i < 2 ? PORT_0 : NAMES;
		call = open_socket(kinds[i % 2], NULL);
		require(call.returned == 0, "%s: %s", kinds[i % 2]->name, call.report.message);
		expect(PORT_MIN <= call.port && call.port <= SMALL_MAX);
	}
}

/* SocketBindDeny=ipv6 of systemd. */
TEST_IN_NETNS(a_hook_forbids_ipv6)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	permitted = IPV4;
	set_port_range(PORT_MIN, SMALL_MAX);
	options.address = "::";
	for_each_kind(kind)
	{
		Call		call = opens(kind, NULL);

		expect_equal(call.report.family, AF_INET);
		reach(call.fd, "127.0.0.1");

		/* A caller who asks for IPv6 by its address gets no IPv4 instead. */
		call = open_socket(kind, &options);
		expect_failed(&call, EACCES);
		expect_equal(call.report.family, AF_INET6);
	}
}

TEST_IN_NETNS(ipv6_only_may_not_be_cleared)
{
	skip_without_ipv6();
	refuse_call(SYS_setsockopt, 2, IPV6_V6ONLY, EPERM);
	for_each_kind(kind)
	{
		/* It is clear. */
		set_bindv6only(false);
		reach(opens(kind, NULL).fd, "127.0.0.1");

		/* It is set, and the socket would take no IPv4. */
		set_bindv6only(true);
		refused(kind, NULL, EPERM, IC_LISTENER_STEP_SETSOCKOPT, "setsockopt");
	}
}

/*
 * Descriptors
 */

/* From now on so many can be opened, and no more. */
static void
leave_descriptors(int count)
{
	int			last = -1;

	allow_descriptors(256);
	for (int fd; (fd = dup(STDIN_FILENO)) >= 0; last = fd)
		;
	expect_equal(errno, EMFILE);
	for (int i = 0; i < count; i++)
		close(last - i);
}

TEST_IN_NETNS(no_descriptor_is_left)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	leave_descriptors(0);
	for (int i = 0; i < 4; i++)
	{
		Call		call;

		options.address = i / 2 ? "fe80::1%lo" : NULL;
		call = open_socket(kinds[i % 2], &options);
		expect_failed(&call, EMFILE);
		expect_equal(call.report.step, IC_LISTENER_STEP_SOCKET);
	}
	expect_equal(ic_listener_census(NULL, &census), -1);
	expect_equal(errno, EMFILE);
	expect_equal(census.error, EMFILE);
}

/* One is enough: on a free port, to say there is none, and on a shared one. */
static void
open_with_one_descriptor(void *argument)
{
	int			number = *(int *) argument;
	const Kind *kind = kinds[number % 2];
	bool		held = number / 2 == 1;
	bool		time_wait = number / 2 == 2;
	Neighbour	everybody = {.address = "::", .listens = true};
	Ports		all = ports_from_to(PORT_MIN, SMALL_MAX);

	skip_without_ipv6();
	now_doing("%s, held %d, TIME_WAIT %d", kind->name, held, time_wait);
	if (held)
		hold_ports(&everybody, &all);
	if (time_wait)
		leave_in_time_wait(PORT_MIN, SMALL_MAX);
	set_port_range(PORT_MIN, SMALL_MAX);
	leave_descriptors(1);
	/* The first call of a process, and later ones, read the range. */
	for (int round = 0; round < 3; round++)
	{
		Call		call = open_socket(kind, NULL);

		if (held && kind == &tcp)
		{
			expect_failed(&call, EADDRINUSE);
			expect_equal(call.report.holders.listening, 64);
			continue;
		}
		require(call.returned == 0, "%s", call.report.message);
		expect_equal(call.report.origin, time_wait && kind == &tcp ?
					 IC_LISTENER_PORT_ORIGIN_REUSED : IC_LISTENER_PORT_ORIGIN_FREE);
		close(call.fd);
	}
}

static void
one_descriptor_is_left(void **state)
{
	(void) state;
	for (int i = 0; i < 6; i++)
		assert_passes_in_netns(open_with_one_descriptor, &i);
}

/*
 * Neither sock_diag nor /proc can be asked. A port is named if this process
 * has read before that none is reserved.
 */
TEST_IN_NETNS(a_connection_with_the_last_descriptor)
{
	static const struct
	{
		const char *reserved;
		bool		has_read;
		int			error;
	}			cases[] = {
		{"", true, 0},
		{"", false, EADDRNOTAVAIL},
		{"40001", true, EADDRNOTAVAIL},
	};

	crowd(40000, 40031);
	server_on("127.0.0.1", 30000);
	server_on("127.0.0.1", 30001);
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		now_doing("reserved: \"%s\", read: %d", cases[i].reserved, cases[i].has_read);
		set_sysctl("net.ipv4.ip_local_reserved_ports", "%s\n", cases[i].reserved);
		if (fork_child() == 0)
		{
			int			before = stream_socket("127.0.0.1");
			int			fd = stream_socket("127.0.0.1");

			if (cases[i].has_read)
				expect_equal(ic_connect(before, "127.0.0.1", 30001, NULL), 0);
			leave_descriptors(0);
			expect_equal(ic_connect(fd, "127.0.0.1", 30000, NULL), cases[i].error);
			expect_equal(has_no_port(fd), cases[i].error != 0);
			_exit(0);
		}
		expect(wait(NULL) > 0);
	}
}

/* Also where sockets are spent: a new one comes after the old one. */
TEST_IN_NETNS(one_descriptor_is_left_and_one_port)
{
	set_port_range(PORT_MIN, SMALL_MAX);
	permitted = ONE_PORT_LATE;
	leave_descriptors(1);
	for_each_kind(kind)
	{
		Call		call = open_socket(kind, NULL);

		require(call.returned == 0, "%s: %s", kind->name, call.report.message);
		expect_equal(call.port, PERMITTED);
		close(call.fd);
	}
}

static int
run_policies(void)
{
	return run_all(
		test(only_port_0_is_permitted),
		test(a_hook_changes_the_port),
		test(a_hook_permits_one_port),
		test(a_hook_permits_port_0_only_or_names_only),
		test(a_hook_forbids_ipv6));
}

int
main(void)
{
	int			failed = run_policies();

	no_windows = true;
	failed += run_policies();
	no_windows = false;
	return failed + run_all(
		test(ipv6_only_may_not_be_cleared),
		test(no_descriptor_is_left),
		test(one_descriptor_is_left),
		test(a_connection_with_the_last_descriptor),
		test(one_descriptor_is_left_and_one_port));
}
