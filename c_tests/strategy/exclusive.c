/*
 * exclusive.c
 *		A listener is alone on its port, whatever socket tries to join it,
 *		in either family. It serves IPv4 whatever the host does with IPv6.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define PORT_MIN 40000
#define PORT_MAX 40007

/* Every way to ask for the port that sockets have. */
static void
try_to_join(int port, const char *who)
{
	static const Neighbour addresses[] = {
		{.address = "::"},
		{.address = "::", .only_v6 = true},
		{.address = "::1"},
		{.address = "::ffff:0.0.0.0"},
		{.address = "::ffff:127.0.0.1"},
		{.address = "0.0.0.0"},
		{.address = "127.0.0.1"},
		{.address = "127.0.0.2"},
	};

	for (size_t index = 0; index < sizeof(addresses) / sizeof(*addresses);
		 index++)
	{
		for (int options = 0; options < 4; options++)
		{
			Neighbour	rival = addresses[index];

			rival.reuse_address = options & 1;
			rival.reuse_port = options & 2;
			rival.listens = true;
			require(open_neighbour(&rival, port) < 0 && errno == EADDRINUSE,
					"%s joined port %d on %s, v6only %d, SO_REUSEADDR %d, "
					"SO_REUSEPORT %d (errno %d)", who, port, rival.address,
					rival.only_v6, rival.reuse_address, rival.reuse_port,
					errno);
		}
	}
}

static void
defend_port(const Call *call, void (*attack) (int port))
{
	attack(call->port);

	/* Also with connections and TIME_WAITs. */
	leave_time_wait(call->fd, "127.0.0.1");
	leave_time_wait(call->fd, "::1");
	attack(call->port);
}

static void
join_as_the_same_user(int port)
{
	try_to_join(port, "the same user");
}

static void
join_as_another_user(int port)
{
	int			child = fork_child();

	if (child == 0)
	{
		if (!become_another_user())
			skip_child("another user: run as root");
		try_to_join(port, "another user");
		_exit(0);
	}
	wait_for_child(child);
}

static void
defend_free_and_reused_port(void (*attack) (int port))
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true};
	Ports		bound = ports_from_to(PORT_MIN, PORT_MIN);
	Call		call;

	set_port_range(PORT_MIN, PORT_MIN + 1);
	hold_ports(&neighbour, &bound);
	call = require_listener(NULL);
	require(call.report.origin == IC_LISTENER_PORT_ORIGIN_FREE, "%s",
			call.report.message);
	defend_port(&call, attack);
	call = require_listener(NULL);
	require(call.report.origin == IC_LISTENER_PORT_ORIGIN_REUSED, "%s",
			call.report.message);
	defend_port(&call, attack);
}

TEST_IN_NETNS(nobody_joins_a_listener)
{
	defend_free_and_reused_port(join_as_the_same_user);
}

TEST_IN_NETNS(nor_does_another_user)
{
	defend_free_and_reused_port(join_as_another_user);
}

/* A socket of IPv6 with SO_REUSEPORT that listens, bound to lo if wanted. */
static int
open_with_reuseport(int port, bool only_v6, bool on_lo)
{
	struct sockaddr_storage address;
	socklen_t	length = socket_address("::", port, &address);
	int			fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			v6only = only_v6;
	int			on = 1;

	expect(fd >= 0);
	expect(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only,
					  sizeof(v6only)) == 0);
	expect(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0);
	if (on_lo)
		expect(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
	if (bind(fd, (struct sockaddr *) &address, length) == 0 &&
		listen(fd, 8) == 0)
		return fd;
	close(fd);
	return -1;
}

/*
 * Linux lets a second socket join a first one with SO_REUSEPORT of the same
 * user, and does not check who else has the port. Where ours takes IPv4 only,
 * the first is not in its way. What the header calls safe is safe.
 */
static void
keep_connections(const char *address, bool joined)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	for (int on_lo = 0; on_lo <= 1; on_lo++)
	{
		Call		call;
		int			first;
		int			second;

		now_doing("%s, SO_BINDTODEVICE %d", address ? address : "default",
				  on_lo);
		options.address = address;
		call = require_listener(&options);
		first = open_with_reuseport(call.port, true, false);
		second = open_with_reuseport(call.port, false, on_lo);
		expect_equal(first >= 0, joined);
		expect_equal(second >= 0, joined);
		if (address == NULL || strchr(address, '.') != NULL)
			reach(call.fd, "127.0.0.1");
		if (address == NULL || strcmp(address, "::") == 0)
			reach(call.fd, "::1");
		close(first);
		close(second);
		close(call.fd);
	}
}

TEST_IN_NETNS(a_pair_with_so_reuseport_takes_no_connection)
{
	skip_without_ipv6();
	keep_connections(NULL, false);
	keep_connections("::", false);
	keep_connections("127.0.0.1", true);
	keep_connections("::ffff:127.0.0.1", true);
}

/*
 * Neighbours listen on all ports but the last, in one family only. The
 * library never gives one of their port numbers in the other family.
 */
static void
avoid_ports_of_one_family(void *argument)
{
	Ports		theirs = ports_from_to(PORT_MIN, PORT_MAX - 1);
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Ports		taken;
	Call		last;
	int			count;

	set_port_range(PORT_MIN, PORT_MAX);
	hold_ports(argument, &theirs);
	count = take_all_ports(NULL, &taken, &last);
	require(count == 1 && taken.has[PORT_MAX], "%d ports were given", count);
	require(last.report.family == AF_INET6, "it went on to IPv4");

	/* The same with ports that are bound and not shared. */
	options.address = "::";
	count = take_all_ports(&options, &taken, &last);
	require(count == 0, "%d ports were given", count);
}

static void
no_port_is_given_that_is_in_use_on_one_family(void **state)
{
	static Neighbour neighbours[] = {
		{.address = "0.0.0.0", .listens = true},
		{.address = "0.0.0.0", .listens = true, .reuse_address = true},
		{.address = "0.0.0.0", .listens = true, .reuse_port = true},
		{.address = "127.0.0.1", .listens = true, .reuse_address = true},
		{.address = "127.0.0.1"},
		{.address = "::", .only_v6 = true, .listens = true,
		.reuse_address = true},
		{.address = "::1", .listens = true, .reuse_address = true},
		{.address = "::1"},
	};

	(void) state;
	for (size_t index = 0; index < sizeof(neighbours) / sizeof(*neighbours);
		 index++)
		assert_passes_in_netns(avoid_ports_of_one_family, &neighbours[index]);
}

TEST_IN_NETNS(ipv4_is_served_where_ipv6_is_disabled)
{
	Call		call;

	disable_ipv6();
	call = call_setup_listener();
	expect_equal(call.returned, 0);
	reach(call.fd, "127.0.0.1");
}

TEST_IN_NETNS(both_families_are_served_whatever_bindv6only_says)
{
	Call		call;

	set_bindv6only(true);
	require(socket_option(socket(AF_INET6, SOCK_STREAM, 0), IPPROTO_IPV6,
						  IPV6_V6ONLY) == 1,
			"bindv6only does not make sockets IPv6 only");
	call = call_setup_listener();
	expect_equal(call.returned, 0);
	expect_equal(socket_option(call.fd, SOL_SOCKET, SO_DOMAIN), AF_INET6);
	expect_equal(socket_option(call.fd, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	reach(call.fd, "127.0.0.1");
	reach(call.fd, "::1");
	join_as_the_same_user(call.port);
}

int
main(void)
{
	return run_all(
		test(nobody_joins_a_listener),
		test(nor_does_another_user),
		test(a_pair_with_so_reuseport_takes_no_connection),
		test(no_port_is_given_that_is_in_use_on_one_family),
		test(ipv4_is_served_where_ipv6_is_disabled),
		test(both_families_are_served_whatever_bindv6only_says));
}
