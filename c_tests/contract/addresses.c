/*
 * addresses.c
 *		Which addresses can be listened on, how the others are refused, and
 *		what the wildcard is on hosts with less than IPv4 and IPv6.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "promises.h"
#include "test.h"

TEST_IN_NETNS(addresses)
{
	static const struct
	{
		const char *address;
		const char *bound;
		int			family;
		const char *reached_at;
		const char *also_at;
	}			cases[] = {
		{"127.0.0.1", "127.0.0.1", AF_INET, "127.0.0.1", NULL},
		{"127.1.2.3", "127.1.2.3", AF_INET, "127.1.2.3", NULL},
		{"0.0.0.0", "0.0.0.0", AF_INET, "127.0.0.1", "127.1.2.3"},
		{"::1", "::1", AF_INET6, "::1", NULL},
		{"0:0:0::0:1", "::1", AF_INET6, "::1", NULL},
		{"::", "::", AF_INET6, "::1", "127.0.0.1"},
		{"::ffff:127.0.0.1", "::ffff:127.0.0.1", AF_INET6, "127.0.0.1", NULL},
		{"::FFFF:7f00:1", "::ffff:127.0.0.1", AF_INET6, "127.0.0.1", NULL},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	skip_without_ipv6();
	for (int v6only = 0; v6only <= 1; v6only++)
	{
		set_bindv6only(v6only);
		for_each_kind(kind)
		{
			for (size_t i = 0; i < lengthof(cases); i++)
			{
				int			fd;

				now_doing("%s, address %s, bindv6only %d", kind->name,
						  cases[i].address, v6only);
				options.address = cases[i].address;
				fd = opens(kind, &options, &report);
				expect_equal(report.family, cases[i].family);
				require(strcmp(local_address(fd), cases[i].bound) == 0,
						"bound to %s", local_address(fd));
				reach(fd, cases[i].reached_at);
				if (cases[i].also_at != NULL)
					reach(fd, cases[i].also_at);
				close(fd);
			}
		}
	}
}

/* Each unicast address has its own port space (gpdb PR 9696). */
TEST_IN_NETNS(port_space_of_an_address)
{
	static const char *const addresses[] = {
		"127.0.0.1", "127.0.0.2", "127.0.0.3",
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.port_min = 7000;
	options.port_max = 7007;
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(addresses); i++)
		{
			now_doing("%s, address %s", kind->name, addresses[i]);
			options.address = addresses[i];
			takes_each_port_once(kind, &options, 7000, 7007,
								 IC_LISTENER_PORT_ORIGIN_FREE);
		}
		now_doing("%s, the wildcard over them", kind->name);
		options.address = NULL;
		refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND,
				"8 tried, 8 in use");
	}
}

TEST_IN_NETNS(ipv4_only)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	/* As on a host without IPv6. */
	refuse_call(SYS_socket, 0, AF_INET6, EAFNOSUPPORT);
	for_each_kind(kind)
	{
		int			fd;

		now_doing("%s, no IPv6", kind->name);
		fd = opens(kind, NULL, &report);
		expect_equal(report.family, AF_INET);
		expect(strcmp(local_address(fd), "0.0.0.0") == 0);
		reach(fd, "127.0.0.1");
		close(fd);

		/* A caller who asks for IPv6 by its address gets no IPv4 instead. */
		now_doing("%s, address ::1, no IPv6", kind->name);
		options.address = "::1";
		report = refused(kind, &options, EAFNOSUPPORT, IC_LISTENER_STEP_SOCKET,
						 "socket: ");
		expect_equal(report.family, AF_INET6);
	}
}

/* IPv6 is switched off on the interfaces. The wildcard needs none of them. */
TEST_IN_NETNS(ipv6_without_addresses)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	skip_without_ipv6();
	disable_ipv6();
	for_each_kind(kind)
	{
		int			fd;

		now_doing("%s, disable_ipv6", kind->name);
		fd = opens(kind, NULL, &report);
		reach(fd, "127.0.0.1");
		close(fd);

		now_doing("%s, address ::1, disable_ipv6", kind->name);
		options.address = "::1";
		refused(kind, &options, EADDRNOTAVAIL, IC_LISTENER_STEP_BIND, "::1");
	}
}

static void
run_or_skip(const char *what, const char *command)
{
	if (system(command) != 0)
		skip_child("%s: install iproute2 and a kernel with veth", what);
}

TEST_IN_NETNS(link_local)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;
	char		by_index[64];
	const char *good[] = {"fe80::1234%ic0", by_index, "fe80::77%77"};
	static const char *const bound[] = {
		"fe80::1234%ic0", "fe80::1234%ic0", "fe80::77%77",
	};
	static const char *const not_there[] = {
		"fe80::1234%77", "fe80::1234%lo", "fe80::77%ic0", "fe80::4321%ic0",
	};
	static const char *const unknown[] = {
		"fe80::1234", "fe80::1234%", "fe80::1234%ic", "fe80::1234%ic00",
		"fe80::1234%ic0 ", "fe80::1234%ic0%ic0", "fe80::1234%7654",
		"fe80::1234%0", "fe80::1234%-1", "fe80::1234%+2", "fe80::1234%4294967297",
		"fe80::1234%interface-name-too-long",
	};

	skip_without_ipv6();

	/* An interface may have digits for its name; the name goes first. */
	run_or_skip("a veth pair",
				"{ ip link add ic0 type veth peer name 77 && "
				"ip link set ic0 up && ip link set 77 up && "
				"ip -6 address add fe80::1234/64 dev ic0 nodad && "
				"ip -6 address add fe80::77/64 dev 77 nodad; } "
				">/dev/null 2>&1");
	snprintf(by_index, sizeof(by_index), "fe80::1234%%%u",
			 if_nametoindex("ic0"));
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(good); i++)
		{
			int			fd;

			now_doing("%s, address %s", kind->name, good[i]);
			options.address = good[i];
			fd = opens(kind, &options, &report);
			expect_equal(report.family, AF_INET6);
			require(strcmp(local_address(fd), bound[i]) == 0,
					"bound to %s", local_address(fd));
			reach(fd, bound[i]);
			close(fd);
		}
		for (size_t i = 0; i < lengthof(not_there); i++)
		{
			now_doing("%s, address %s", kind->name, not_there[i]);
			options.address = not_there[i];
			refused(kind, &options, EADDRNOTAVAIL, IC_LISTENER_STEP_BIND,
					"is not an address of this host");
		}
		for (size_t i = 0; i < lengthof(unknown); i++)
		{
			now_doing("%s, address %s", kind->name, unknown[i]);
			options.address = unknown[i];
			refused(kind, &options, EINVAL, IC_LISTENER_STEP_ADDRESS,
					unknown[i]);
		}
	}
}

TEST(not_an_address)
{
	static char junk[4096 + 1];
	static char junk_quoted[64 + 6];
	const struct
	{
		const char *address;
		const char *quoted;
	}			cases[] = {
		{"", "\"\""},
		{" ", "\" \""},
		{"localhost", "\"localhost\""},
		{"db1.example.com", "\"db1.example.com\""},
		{"ip6-localhost", "\"ip6-localhost\""},
		{"*", "\"*\""},
		{"127.0.0.1:5432", "\"127.0.0.1:5432\""},
		{"[::1]", "\"[::1]\""},
		{"[::1]:5432", "\"[::1]:5432\""},
		{"127.0.0.1/8", "\"127.0.0.1/8\""},
		{"127.0.0.1 ", "\"127.0.0.1 \""},
		{" 127.0.0.1", "\" 127.0.0.1\""},
		{"127.1", "\"127.1\""},
		{"2130706433", "\"2130706433\""},
		{"0x7f.0.0.1", "\"0x7f.0.0.1\""},
		{"0177.0.0.1", "\"0177.0.0.1\""},
		{"127.0.0.256", "\"127.0.0.256\""},
		{"127.0.0.1.1", "\"127.0.0.1.1\""},
		{"127.0.0.1%lo", "\"127.0.0.1%lo\""},
		{"::1%lo", "\"::1%lo\""},
		{"1::2::3", "\"1::2::3\""},
		{":::1", "\":::1\""},
		{"12345::1", "\"12345::1\""},
		{"1:2:3:4:5:6:7:8:9", "\"1:2:3:4:5:6:7:8:9\""},
		{"::ffff:127.0.0", "\"::ffff:127.0.0\""},
		{"fe80::1%nosuchif0", "\"fe80::1%nosuchif0\""},
		{"%s%n%s%n", "\"%s%n%s%n\""},
		{"127.0.0.1\n", "\"127.0.0.1?\""},
		{"\t\033[31m\177", "\"??[31m?\""},
		{"\377\376", "\"??\""},
		{"\303\250\303", "\"???\""},
		{junk, junk_quoted},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	memset(junk, 'x', sizeof(junk) - 1);
	snprintf(junk_quoted, sizeof(junk_quoted), "\"%.64s\"...", junk);
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(cases); i++)
		{
			IcListenerReport report;

			now_doing("%s, address %.80s", kind->name, cases[i].quoted);
			options.address = cases[i].address;
			report = refused(kind, &options, EINVAL, IC_LISTENER_STEP_ADDRESS,
							 cases[i].quoted);
			expect_equal(report.family, 0);
			expect_equal(report.ports_tried, 0);
		}
	}
}

TEST_IN_NETNS(not_this_host_s)
{
	static const char *const addresses[] = {
		"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1",
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	skip_without_ipv6();
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(addresses); i++)
		{
			IcListenerReport report;

			now_doing("%s, address %s", kind->name, addresses[i]);
			options.address = addresses[i];
			report = refused(kind, &options, EADDRNOTAVAIL,
							 IC_LISTENER_STEP_BIND, addresses[i]);
			expect_in(report.message, "is not an address of this host");
			expect_equal(report.family,
						 strchr(addresses[i], ':') ? AF_INET6 : AF_INET);
		}
	}
}

/*
 * bind() takes the broadcast address of a network; no peer can connect to it.
 */
TEST_IN_NETNS(broadcast_addresses)
{
	static const char *const broadcast[] = {
		"127.255.255.255", "10.0.0.255", "::ffff:10.0.0.255", "10.1.0.7",
		"10.2.255.255", "255.255.255.255",
	};
	/* Unicast, although they look like it. */
	static const char *const unicast[] = {
		"127.0.0.3", "127.0.0.4", "127.0.0.255", "10.0.0.3", "10.0.0.100",
		"10.1.0.6", "10.2.0.255", "10.2.1.0", "10.3.0.0", "10.3.0.1",
		"10.4.0.255", "::ffff:10.0.0.3",
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	run_or_skip("a veth pair",
				"{ ip link add ic0 type veth peer name ic1 && "
				"ip link set ic0 up && ip link set ic1 up && "
				"ip address add 10.0.0.3/24 brd + dev ic0 && "
				"ip address add 10.0.0.100/24 brd + dev ic0 && "
				"ip address add 10.1.0.6/30 brd + dev ic0 && "
				"ip address add 10.2.0.255/16 brd + dev ic0 && "
				"ip address add 10.2.1.0/16 brd + dev ic0 && "
				"ip address add 10.3.0.0/31 dev ic0 && "
				"ip address add 10.3.0.1/31 dev ic1 && "
				"ip address add 10.4.0.255/32 dev ic0; } >/dev/null 2>&1");
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(broadcast); i++)
		{
			char		quoted[64];

			now_doing("%s, address %s", kind->name, broadcast[i]);
			options.address = broadcast[i];
			snprintf(quoted, sizeof(quoted), "not a unicast address: \"%s\"",
					 broadcast[i]);
			refused(kind, &options, EINVAL, IC_LISTENER_STEP_ADDRESS, quoted);
		}
		for (size_t i = 0; i < lengthof(unicast); i++)
		{
			int			fd;

			now_doing("%s, address %s", kind->name, unicast[i]);
			options.address = unicast[i];
			fd = opens(kind, &options, &report);
			reach(fd, strchr(unicast[i], ':') ? unicast[i] + 7 : unicast[i]);
			close(fd);
		}
	}
}

/* The flags of the address, as /proc/net/if_inet6 has them: if_inet6.c. */
static unsigned int
ipv6_flags(const char *address)
{
	FILE	   *file = fopen("/proc/net/if_inet6", "r");
	struct in6_addr wanted;
	char		digits[33];
	char		found[33];
	unsigned int flags;

	expect(inet_pton(AF_INET6, address, &wanted) == 1);
	for (int i = 0; i < 16; i++)
		sprintf(digits + 2 * i, "%02x", wanted.s6_addr[i]);
	expect(file != NULL);
	while (fscanf(file, "%32s %*x %*x %*x %x %*s", found, &flags) == 2)
	{
		if (strcmp(found, digits) == 0)
		{
			fclose(file);
			return flags;
		}
	}
	fclose(file);
	return 0;
}

/* 2001:db8::6 is on another host, at the other end of a wire from ic2. */
static void
add_duplicate(void)
{
	char		command[128];
	char		byte;
	int			there[2];
	int			here[2];
	int			pid;

	expect(pipe(there) == 0 && pipe(here) == 0);
	pid = fork_child();
	if (pid == 0)
	{
		expect(enter_netns() == NULL);
		expect(write(here[1], "", 1) == 1 && read(there[0], &byte, 1) == 1);
		run_or_skip("a veth pair", "ip link set ic3 up && "
					"ip -6 address add 2001:db8::6/64 dev ic3 nodad");
		expect(write(here[1], "", 1) == 1);
		for (;;)
			pause();
	}
	expect(read(here[0], &byte, 1) == 1);
	snprintf(command, sizeof(command), "ip link add ic2 type veth peer name "
			 "ic3 netns %d && ip link set ic2 up", pid);
	run_or_skip("a veth pair", command);
	expect(write(there[1], "", 1) == 1 && read(here[0], &byte, 1) == 1);
	run_or_skip("a veth pair", "ip -6 address add 2001:db8::6/64 dev ic2");

	/* The kernel asks within a second, and has an answer at once. */
	for (int tenths = 0; !(ipv6_flags("2001:db8::6") & 0x08); tenths++)
	{
		expect(tenths < 100);
		usleep(100 * 1000);
	}
}

/* `ip address` shows them, and bind() refuses them. */
TEST_IN_NETNS(addresses_that_are_almost_there)
{
	static const struct
	{
		const char *address;
		int			error;
		IcListenerStep step;
		const char *message;
	}			cases[] = {
		{"2001:db8::7", EADDRNOTAVAIL, IC_LISTENER_STEP_BIND,
			"2001:db8::7 is still tentative: "
		"duplicate address detection has not ended"},
		{"fe80::7%ic1", EADDRNOTAVAIL, IC_LISTENER_STEP_BIND,
			"fe80::7%ic1 is still tentative: "
		"duplicate address detection has not ended"},
		{"2001:db8::6", EADDRNOTAVAIL, IC_LISTENER_STEP_BIND,
		"2001:db8::6 is a duplicate: another host has it"},
		{"fe80::5%ic1", EADDRNOTAVAIL, IC_LISTENER_STEP_BIND,
			"fe80::5%ic1 is not an address of this host, "
		"but fe80::5%ic0 is"},
		{"fe80::8%ic1", EADDRNOTAVAIL, IC_LISTENER_STEP_BIND,
		"fe80::8%ic1 is not an address of this host"},
		{"2001:db8::8", EADDRNOTAVAIL, IC_LISTENER_STEP_BIND,
		"2001:db8::8 is not an address of this host"},
		{"fe80::5%interconnect-of-the-cluster", EINVAL,
			IC_LISTENER_STEP_ADDRESS,
			"an interface name of 16 or more characters can only be an "
		"alternative one, use its name or its index"},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	skip_without_ipv6();
	run_or_skip("a veth pair",
				"{ ip link add ic0 type veth peer name ic1 && "
				"ip link set ic0 up && ip link set ic1 up && "
				"ip -6 address add fe80::5/64 dev ic0 nodad && "
				"ip link property add dev ic0 altname ic0-too "
				"altname interconnect-of-the-cluster; } >/dev/null 2>&1");

	add_duplicate();

	/* Takes long: one transmission a second. */
	set_sysctl("net.ipv6.conf.ic1.dad_transmits", "%d", 1000);
	run_or_skip("a veth pair",
				"ip -6 address add 2001:db8::7/64 dev ic1 && "
				"ip -6 address add fe80::7/64 dev ic1");
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(cases); i++)
		{
			IcListenerReport report;

			now_doing("%s, address %s", kind->name, cases[i].address);
			options.address = cases[i].address;
			report = refused(kind, &options, cases[i].error, cases[i].step,
							 cases[i].message);
			if (cases[i].error == EADDRNOTAVAIL)
				require(strcmp(report.message, cases[i].message) == 0,
						"\"%s\"", report.message);
		}

		/* An alternative name that is short enough is a name. */
		options.address = "fe80::5%ic0-too";
		close(opens(kind, &options, &report));
	}
}

int
main(void)
{
	return run_all(
		test(addresses),
		test(port_space_of_an_address),
		test(ipv4_only),
		test(ipv6_without_addresses),
		test(link_local),
		test(not_an_address),
		test(not_this_host_s),
		test(broadcast_addresses),
		test(addresses_that_are_almost_there));
}
