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
		require(strcmp(local_address(call.fd), cases[at].bound) == 0, "%s", local_address(call.fd));
		for (int j = 0; j < 2 && cases[at].reached_at[j] != NULL; j++)
			reach(call.fd, cases[at].reached_at[j]);
		close(call.fd);
	}
}

/* Or whose interfaces have none. The wildcard needs no interface. */
TEST_EACH_IN_NETNS(a_host_without_ipv6, 2)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	bool		disabled = number == 1;

	if (disabled)
	{
		skip_without_ipv6();
		set_sysctl("net.ipv6.conf.all.disable_ipv6", "1");
	}
	else
		refuse_call(SYS_socket, 0, AF_INET6, EAFNOSUPPORT);
	for_each_kind(kind)
	{
		Call		call = opens(kind, NULL);

		expect_equal(call.report.family, disabled ? AF_INET6 : AF_INET);
		reach(call.fd, "127.0.0.1");

		/* A caller who asks for IPv6 by its address gets no IPv4 instead. */
		options.address = "::1";
		refused(kind, &options, disabled ? EADDRNOTAVAIL : EAFNOSUPPORT,
				disabled ? IC_LISTENER_STEP_BIND : IC_LISTENER_STEP_SOCKET, "");
	}
}

TEST_IN_NETNS(link_local_addresses)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	char		by_index[64];
	const char *good[] = {"fe80::1234%lo", by_index};

	skip_without_ipv6();
	if (system("ip -6 address add fe80::1234/64 dev lo nodad >/dev/null 2>&1") != 0)
		skip_child("ip: apt-get install iproute2");
	snprintf(by_index, sizeof(by_index), "fe80::1234%%%u", if_nametoindex("lo"));
	for (size_t i = 0; i < lengthof(good) * 2; i++)
	{
		Call		call;

		options.address = good[i / 2];
		now_doing("%s, address %s", kinds[i % 2]->name, options.address);
		call = opens(kinds[i % 2], &options);
		expect(strcmp(local_address(call.fd), "fe80::1234%lo") == 0);
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
		{"", EINVAL, ""}, {"localhost", EINVAL, "localhost"}, {"%s%n%s%n", EINVAL, "%s%n%s%n"},
		{"\t\033[31m\177\n", EINVAL, ""}, {"\303\250\303", EINVAL, ""}, {junk, EINVAL, "xxx"},
		{"224.0.0.1", EINVAL, "224.0.0.1"}, {"fe80::1", EINVAL, "interface"},
		{"::1%lo", EINVAL, "::1%lo"}, {"fe80::1%lo0", EINVAL, "fe80::1%lo0"},
		{"fe80::1%9999", ENODEV, ""}, {"fe80::1%lo", EADDRNOTAVAIL, "fe80::1%1"},
		{"192.0.2.1", EADDRNOTAVAIL, "192.0.2.1"}, {"2001:db8::1", EADDRNOTAVAIL, "2001:db8::1"},
		{"::ffff:192.0.2.1", EADDRNOTAVAIL, "::ffff:192.0.2.1"},
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
	options.backlog = -1;
	for_each_kind(kind)
		refused(kind, &options, EINVAL, IC_LISTENER_STEP_ARGUMENTS, "backlog");
}

/* Reserved ones too: an administrator reserves ports for callers who name them. */
TEST_IN_NETNS(exactly_these_ports)
{
	static const int cases[][2] = {{7001, 7001}, {7200, 7209}, {65530, 65535}, {33000, 33032}};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	set_sysctl("net.ipv4.ip_local_reserved_ports", "7200-7204,33000-33032");
	for (size_t i = 0; i < lengthof(cases) * 2; i++)
	{
		const Kind *kind = kinds[i % 2];
		Ports		expected = ports_from_to(cases[i / 2][0], cases[i / 2][1]);
		IcListenerReport report;
		Ports		taken;
		Call		last;

		options.port_min = cases[i / 2][0];
		options.port_max = cases[i / 2][1];
		now_doing("%s, ports %d to %d", kind->name, options.port_min, options.port_max);
		take_all_ports(kind, &options, &taken, &last);
		expect(memcmp(&taken, &expected, sizeof(taken)) == 0);
		report = refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND, "in use");
		expect_equal(report.port_min, options.port_min);
		expect_equal(report.port_max, options.port_max);
		expect_equal(report.ports_tried, options.port_max - options.port_min + 1);
		expect_equal(report.ports_in_use, report.ports_tried);
		expect_equal(report.ports_reserved, 0);
		expect_equal(report.listens_lost, 0);
	}
}

TEST(ports_that_are_none)
{
	static const int cases[][2] = {
		{2000, 1999}, {5000, 0}, {0, 5000}, {-1, 5000}, {1, 65536}, {INT_MIN, INT_MAX},
		/* Valid if they were cut to 16 bits. */
		{65536 + 5000, 65536 + 5001}, {-60536, -60535},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	for (size_t i = 0; i < lengthof(cases) * 2; i++)
	{
		options.port_min = cases[i / 2][0];
		options.port_max = cases[i / 2][1];
		now_doing("ports %d to %d", options.port_min, options.port_max);
		refused(kinds[i % 2], &options, EINVAL, IC_LISTENER_STEP_ARGUMENTS, "port");
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
		options.port_min = 1014;
		options.port_max = 1033;
		take_all_ports(kind, &options, &taken, &last);
		expect(memcmp(&taken, &expected, sizeof(taken)) == 0);
		report = refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND, "forbidden");
		expect_equal(report.ports_in_use, 10);
		expect_equal(report.ports_forbidden, 10);

		options.port_max = 1023;
		report = refused(kind, &options, EACCES, IC_LISTENER_STEP_BIND, "forbidden");
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
		test(link_local_addresses),
		test(addresses_that_cannot_be_used),
		test(backlog),
		test(exactly_these_ports),
		test(ports_that_are_none),
		test(ports_that_need_privilege));
}
