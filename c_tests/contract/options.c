/*
 * options.c
 *		Which addresses, ports and backlogs can be had, and how the others
 *		are refused; what the wildcard is on hosts with less than IPv4 and
 *		IPv6.
 */
#define _GNU_SOURCE

#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test.h"

TEST_IN_NETNS(addresses)
{
	static const struct
	{
		const char *address;
		const char *bound;
		const char *reached_at[2];
	}			cases[] = {
		{NULL, "::", {"127.0.0.1", "::1"}},
		{"127.0.0.1", "127.0.0.1", {"127.0.0.1"}},
		{"127.1.2.3", "127.1.2.3", {"127.1.2.3"}},
		{"0.0.0.0", "0.0.0.0", {"127.0.0.1", "127.1.2.3"}},
		{"::1", "::1", {"::1"}},
		{"0:0:0::0:1", "::1", {"::1"}},
		{"::", "::", {"::1", "127.0.0.1"}},
		{"::ffff:127.0.0.1", "::ffff:127.0.0.1", {"127.0.0.1"}},
		{"::FFFF:7f00:1", "::ffff:127.0.0.1", {"127.0.0.1"}},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	skip_without_ipv6();
	for (size_t i = 0; i < lengthof(cases) * 4; i++)
	{
		const Kind *kind = kinds[i % 2];
		size_t		at = i / 4;
		Call		call;

		set_bindv6only(i / 2 % 2);
		now_doing("%s, address %s, bindv6only %d", kind->name,
				  cases[at].address, (int) (i / 2 % 2));
		options.address = cases[at].address;
		call = opens(kind, options.address != NULL ? &options : NULL);
		expect_equal(call.report.family,
					 strchr(cases[at].bound, ':') ? AF_INET6 : AF_INET);
		require(strcmp(local_address(call.fd), cases[at].bound) == 0,
				"bound to %s", local_address(call.fd));
		for (int j = 0; j < 2 && cases[at].reached_at[j] != NULL; j++)
			reach(call.fd, cases[at].reached_at[j]);
		close(call.fd);
	}
}

TEST_IN_NETNS(a_host_without_ipv6)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	refuse_call(SYS_socket, 0, AF_INET6, EAFNOSUPPORT);
	for_each_kind(kind)
	{
		Call		call = opens(kind, NULL);

		expect_equal(call.report.family, AF_INET);
		expect(strcmp(local_address(call.fd), "0.0.0.0") == 0);
		reach(call.fd, "127.0.0.1");

		/* A caller who asks for IPv6 by its address gets no IPv4 instead. */
		options.address = "::1";
		expect_equal(refused(kind, &options, EAFNOSUPPORT,
							 IC_LISTENER_STEP_SOCKET, "socket: ").family,
					 AF_INET6);
	}
}

/* IPv6 is switched off on the interfaces. The wildcard needs none of them. */
TEST_IN_NETNS(a_host_whose_ipv6_is_disabled)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	skip_without_ipv6();
	set_sysctl("net.ipv6.conf.all.disable_ipv6", "1");
	for_each_kind(kind)
	{
		reach(opens(kind, NULL).fd, "127.0.0.1");
		options.address = "::1";
		refused(kind, &options, EADDRNOTAVAIL, IC_LISTENER_STEP_BIND, "::1");
	}
}

/* ic0 and 77 are the ends of a wire; an interface may have digits for a name. */
static void
make_interfaces(void)
{
	if (system("{ ip link add ic0 type veth peer name 77 && "
			   "ip link set ic0 up && ip link set 77 up && "
			   "ip -6 address add fe80::1234/64 dev ic0 nodad && "
			   "ip -6 address add fe80::77/64 dev 77 nodad && "
			   "sysctl -qw net.ipv6.conf.77.dad_transmits=1000 && "
			   "ip -6 address add 2001:db8::7/64 dev 77; } >/dev/null 2>&1") != 0)
		skip_child("a veth pair: install iproute2 and procps, and a kernel with veth");
}

TEST_IN_NETNS(link_local_addresses)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	char		by_index[64];
	const char *good[][2] = {
		{"fe80::1234%ic0", "fe80::1234%ic0"}, {by_index, "fe80::1234%ic0"},
		{"fe80::77%77", "fe80::77%77"},
	};
	/* The last is tentative for as long as the test takes. */
	static const char *const not_there[] = {"fe80::1234%77", "fe80::4321%ic0", "2001:db8::7"};

	skip_without_ipv6();
	make_interfaces();
	snprintf(by_index, sizeof(by_index), "fe80::1234%%%u", if_nametoindex("ic0"));
	for (size_t i = 0; i < lengthof(good) * 2; i++)
	{
		const char *const *one = good[i / 2];
		Call		call;

		now_doing("%s, address %s", kinds[i % 2]->name, one[0]);
		options.address = one[0];
		call = opens(kinds[i % 2], &options);
		require(strcmp(local_address(call.fd), one[1]) == 0, "bound to %s",
				local_address(call.fd));
		reach(call.fd, one[1]);
	}
	for (size_t i = 0; i < lengthof(not_there) * 2; i++)
	{
		options.address = not_there[i / 2];
		now_doing("%s, address %s", kinds[i % 2]->name, options.address);
		refused(kinds[i % 2], &options, EADDRNOTAVAIL, IC_LISTENER_STEP_BIND,
				"is not an address of this host, or not yet");
	}
}

/* (src/address.rs has more of them.) */
TEST_IN_NETNS(addresses_that_cannot_be_used)
{
	static char junk[4096 + 1];
	/* EINVAL: "address"; the other errnos: "bind". And a part of the message. */
	const struct
	{
		const char *address;
		int			error;
		const char *message;
	}			cases[] = {
		{"", EINVAL, "not a numeric address: "},
		{"localhost", EINVAL, "localhost"},
		{"127.0.0.1:5432", EINVAL, "127.0.0.1:5432"},
		{" 127.0.0.1", EINVAL, " 127.0.0.1"},
		{"127.1", EINVAL, "127.1"},
		{"%s%n%s%n", EINVAL, "%s%n%s%n"},
		{"127.0.0.1\n", EINVAL, "127.0.0.1\\n"},
		{"\t\033[31m\177", EINVAL, "\\t\\x1b[31m\\x7f"},
		{"\303\250\303", EINVAL, "\\xc3\\xa8\\xc3"},
		{junk, EINVAL, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
		{"224.0.0.1", EINVAL, "not a unicast address: 224.0.0.1"},
		{"::ffff:239.1.1.1", EINVAL, "not a unicast address: ::ffff:239.1.1.1"},
		{"fe80::1", EINVAL, "needs its interface"},
		{"::1%lo", EINVAL, "only a link-local address has an interface: ::1%lo"},
		{"fe80::1%", EINVAL, "no such interface: fe80::1%"},
		{"fe80::1%lo0", EINVAL, "no such interface: fe80::1%lo0"},
		{"fe80::1%0", EINVAL, "no such interface: fe80::1%0"},
		{"fe80::1%+1", EINVAL, "no such interface: fe80::1%+1"},
		{"fe80::1%4294967297", EINVAL, "no such interface: "},
		{"fe80::1%interface-name-too-long", EINVAL, "no such interface: "},
		{"fe80::1%9999", ENODEV, "bind: No such device"},
		{"fe80::1%lo", EADDRNOTAVAIL, "fe80::1%1 is not an address of this host"},
		{"192.0.2.1", EADDRNOTAVAIL, "192.0.2.1 is not an address of this host"},
		{"2001:db8::1", EADDRNOTAVAIL, "2001:db8::1 is not an address of this host"},
		{"::ffff:192.0.2.1", EADDRNOTAVAIL, "::ffff:192.0.2.1 is not an address of"},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	skip_without_ipv6();
	memset(junk, 'x', sizeof(junk) - 1);
	for (size_t i = 0; i < lengthof(cases) * 2; i++)
	{
		options.address = cases[i / 2].address;
		now_doing("%s, address %.80s", kinds[i % 2]->name, options.address);
		refused(kinds[i % 2], &options, cases[i / 2].error,
				cases[i / 2].error == EINVAL ? IC_LISTENER_STEP_ADDRESS : IC_LISTENER_STEP_BIND,
				cases[i / 2].message);
	}
}

TEST_IN_NETNS(backlog)
{
	static const int cases[][2] = {{0, 128}, {1, 1}, {1024, 1024}, {INT_MAX, 1024}};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	set_sysctl("net.core.somaxconn", "1024");
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		options.backlog = cases[i][0];
		expect_equal(backlog_of(opens(&tcp, &options).fd), cases[i][1]);
	}
	for_each_kind(kind)
	{
		options.backlog = -1;
		refused(kind, &options, EINVAL, IC_LISTENER_STEP_ARGUMENTS, "backlog");
		options.backlog = INT_MIN;
		refused(kind, &options, EINVAL, IC_LISTENER_STEP_ARGUMENTS, "backlog");
	}
}

TEST_IN_NETNS(exactly_these_ports)
{
	static const int cases[][2] = {{7001, 7001}, {7200, 7209}, {65530, 65535}, {33000, 33032}};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	/* An administrator reserves ports for callers who name them. */
	set_sysctl("net.ipv4.ip_local_reserved_ports", "7200-7204,33000-33032");
	for (size_t i = 0; i < lengthof(cases) * 2; i++)
	{
		const Kind *kind = kinds[i % 2];
		const int  *range = cases[i / 2];
		Ports		expected = ports_from_to(range[0], range[1]);
		unsigned	ports = range[1] - range[0] + 1;
		char		message[IC_LISTENER_MESSAGE_SIZE];
		IcListenerReport report;
		Ports		taken;
		Call		last;

		now_doing("%s, ports %d to %d", kind->name, range[0], range[1]);
		options.port_min = range[0];
		options.port_max = range[1];
		take_all_ports(kind, &options, &taken, &last);
		expect(memcmp(&taken, &expected, sizeof(taken)) == 0);

		snprintf(message, sizeof(message),
				 "no %s in %d-%d: %u tried, %u in use: %u %s",
				 kind == &udp ? "UDP port" : "port to listen on", range[0],
				 range[1], ports, ports, ports, kind == &udp ? "bound" :
				 ports == 1 ? "listener" : "listeners");
		report = refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND,
						 message);
		expect_equal(report.port_min, range[0]);
		expect_equal(report.port_max, range[1]);
		expect_equal(report.ports_tried, ports);
		expect_equal(report.ports_in_use, ports);
		expect_equal(report.ports_reserved, 0);
		expect_equal(report.listens_lost, 0);
	}
}

TEST(ports_that_are_none)
{
	static const int cases[][2] = {
		{2000, 1999}, {5000, 0}, {0, 5000}, {-1, 5000}, {5000, -1}, {1, 65536},
		{65536, 0}, {INT_MIN, INT_MAX},
		/* Valid if they were cut to 16 bits. */
		{65536 + 5000, 65536 + 5001}, {-60536, -60535},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	for (size_t i = 0; i < lengthof(cases) * 2; i++)
	{
		options.port_min = cases[i / 2][0];
		options.port_max = cases[i / 2][1];
		now_doing("ports %d to %d", options.port_min, options.port_max);
		refused(kinds[i % 2], &options, EINVAL, IC_LISTENER_STEP_ARGUMENTS,
				"port");
	}
}

/* Without CAP_NET_BIND_SERVICE. Forbidden ports are passed over. */
TEST_IN_NETNS(ports_that_need_privilege)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Ports		expected = ports_from_to(1024, 1033);
	IcListenerReport report;
	Ports		taken;
	Call		last;

	set_sysctl("net.ipv4.ip_unprivileged_port_start", "1024");
	drop_privileges();
	for_each_kind(kind)
	{
		now_doing("%s", kind->name);
		options.port_min = 1014;
		options.port_max = 1033;
		take_all_ports(kind, &options, &taken, &last);
		expect(memcmp(&taken, &expected, sizeof(taken)) == 0);
		report = refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND,
						 " in 1014-1033: 20 tried, 10 in use, 10 forbidden");
		expect_equal(report.ports_in_use, 10);
		expect_equal(report.ports_forbidden, 10);

		options.port_max = 1023;
		report = refused(kind, &options, EACCES, IC_LISTENER_STEP_BIND,
						 " in 1014-1023: 10 tried, 10 forbidden");
		expect_equal(report.ports_in_use, 0);
		expect_equal(report.ports_forbidden, 10);
	}
}

int
main(void)
{
	return run_all(
		test(addresses),
		test(a_host_without_ipv6),
		test(a_host_whose_ipv6_is_disabled),
		test(link_local_addresses),
		test(addresses_that_cannot_be_used),
		test(backlog),
		test(exactly_these_ports),
		test(ports_that_are_none),
		test(ports_that_need_privilege));
}
