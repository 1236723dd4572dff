/*
 * exclusive.c
 *		A listener is alone on its port, whoever tries to join it and on
 *		whichever family, and serves IPv4 whatever the host does with IPv6.
 */
#define _GNU_SOURCE

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netns.h"
#include "sockets.h"
#include "support.h"

#define PORT_MIN 40000
#define PORT_MAX 40007
#define OTHER_USER 65534

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
become_another_user(void)
{
	if (setresuid(OTHER_USER, OTHER_USER, OTHER_USER) != 0)
		skip_child("another user, who tries it too: run as root (%s)",
				   strerror(errno));
}

static void
defend_port(const Call *call)
{
	int			child;

	try_to_join(call->port, "the same user");
	child = fork_child();
	if (child == 0)
	{
		become_another_user();
		try_to_join(call->port, "another user");
		_exit(0);
	}
	wait_for_child(child);

	/* With connections, too. */
	exchange_a_byte(call->fd, "127.0.0.1", call->port);
	exchange_a_byte(call->fd, "::1", call->port);
	try_to_join(call->port, "the same user");
}

static void
defend_free_and_reused_port(void *unused)
{
	Neighbour	neighbour = {.address = "::", .reuse_address = true};
	Ports		bound = ports_from_to(PORT_MIN, PORT_MIN);
	Call		call;

	(void) unused;
	set_port_range(PORT_MIN, PORT_MIN + 1);
	hold_ports(&neighbour, &bound);
	call = require_listener(NULL);
	require(call.report.origin == IC_LISTENER_PORT_ORIGIN_FREE, "%s",
			call.report.message);
	defend_port(&call);
	call = require_listener(NULL);
	require(call.report.origin == IC_LISTENER_PORT_ORIGIN_REUSED, "%s",
			call.report.message);
	defend_port(&call);
}

static void
nobody_joins_a_listener(void **state)
{
	(void) state;
	assert_passes_in_netns(defend_free_and_reused_port, NULL);
}

/*
 * Neighbours listen on all ports but the last, on one family only; nobody is
 * ever given one of their port numbers on the other one.
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

	/* As are ports that somebody only has bound, and not to share. */
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

static void
listen_without_ipv6(void *unused)
{
	Call		call;

	(void) unused;
	set_sysctl("net.ipv6.conf.all.disable_ipv6", "1");
	call = require_listener(NULL);
	exchange_a_byte(call.fd, "127.0.0.1", call.port);
}

static void
ipv4_is_served_where_ipv6_is_disabled(void **state)
{
	(void) state;
	assert_passes_in_netns(listen_without_ipv6, NULL);
}

static void
listen_with_bindv6only(void *unused)
{
	Call		call;

	(void) unused;
	set_sysctl("net.ipv6.bindv6only", "1");
	call = require_listener(NULL);
	require(call.report.family == AF_INET6, "family %d", call.report.family);
	require(socket_option(call.fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0,
			"IPV6_V6ONLY is set");
	exchange_a_byte(call.fd, "127.0.0.1", call.port);
	exchange_a_byte(call.fd, "::1", call.port);
	try_to_join(call.port, "the same user");
}

static void
both_families_are_served_whatever_bindv6only_says(void **state)
{
	(void) state;
	assert_passes_in_netns(listen_with_bindv6only, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_joins_a_listener),
		cmocka_unit_test(no_port_is_given_that_is_in_use_on_one_family),
		cmocka_unit_test(ipv4_is_served_where_ipv6_is_disabled),
		cmocka_unit_test(both_families_are_served_whatever_bindv6only_says),
	};

	return cmocka_run_group_tests_name("exclusive", tests, NULL, NULL);
}
