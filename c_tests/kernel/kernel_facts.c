/*
 * kernel_facts.c
 *		Asks the running kernel for the rules that the strategy depends on:
 *		who may bind which port, and what bind(), listen() and SO_REUSEADDR do.
 *
 * Each question has its own network namespace, and asks for port PORT with
 * IPv6 wildcard sockets unless it says otherwise. For "bind(0)" PORT is the
 * whole ephemeral range: the kernel can answer with that port or EADDRINUSE
 * only. All questions are asked twice, with net.ipv4.ip_autobind_reuse off and
 * on, where the kernel has it (Linux 5.7).
 *
 * Prints one line of TAP for each fact: its name, what we expect and what the
 * kernel answered. The library is not called. check-kernels links this
 * statically. src/strategy.rs and src/connection.rs rest on the facts.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "netns.h"
#include "sockets.h"
#include "support.h"

#define PORT 40000				/* what is asked about; even, see parity */
#define SERVER_PORT 50000		/* the other end of outgoing connections */
#define CLIENT_PORT 51000		/* the other end of accepted ones, and up */
#define NEXT_SERVER_PORT 52000	/* another destination */


/* What the kernel answers; shared by the child that asks and its parent. */
#define SEEN_SIZE 64
static char *seen;

#define see(...) snprintf(seen, SEEN_SIZE, __VA_ARGS__)

/*
 * Sockets
 */

static struct sockaddr_in6
in6_address(struct in6_addr host, int port)
{
	return (struct sockaddr_in6) {
		.sin6_family = AF_INET6,
		.sin6_port = htons(port),
		.sin6_addr = host,
	};
}

static void
allow_reuse(int fd)
{
	int			on = 1;

	require(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0,
			"setsockopt: %s", strerror(errno));
}

static int
unbound_socket(int type, bool reuse)
{
	int			fd = socket(AF_INET6, type, 0);

	require(fd >= 0, "socket: %s", strerror(errno));
	if (reuse)
		allow_reuse(fd);
	return fd;
}

/* 0, or the errno. */
static int
bind_to(int fd, int port)
{
	struct sockaddr_in6 address = in6_address(in6addr_any, port);

	return bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0 ? 0 : errno;
}

static int
listen_on(int fd)
{
	return listen(fd, 8) == 0 ? 0 : errno;
}

static int
require_neighbour(Neighbour neighbour, int port)
{
	int			fd = open_neighbour(&neighbour, port);

	require(fd >= 0, "%s port %d: %s", neighbour.address, port, strerror(errno));
	return fd;
}

static int
bound(bool reuse, int port)
{
	return require_neighbour((Neighbour) {
		.address = "::",
		.reuse_address = reuse,
	}, port);
}

static int
listener(bool reuse, int port)
{
	return require_neighbour((Neighbour) {
		.address = "::",
		.reuse_address = reuse,
		.listens = true,
	}, port);
}

static const char *
answer_to(int error)
{
	return error == 0 ? "ok" : error == EADDRINUSE ? "no" : strerror(error);
}

/* Without a port, connect() has another errno than bind(). */
static const char *
answer_to_connect(int error)
{
	return error == EADDRNOTAVAIL ? "no" : answer_to(error);
}

/* 0, or the errno. From a port, unless it is 0. */
static int
connect_from(int from, int to)
{
	int			fd = unbound_socket(SOCK_STREAM, true);
	struct sockaddr_in6 address = in6_address(in6addr_loopback, to);
	int			error = from != 0 ? bind_to(fd, from) : 0;

	if (error == 0 &&
		connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		error = errno;
	return error;
}

/* What a neighbour gets that asks for the port. */
static const char *
answer_to_neighbour(Neighbour neighbour, int port)
{
	return answer_to(open_neighbour(&neighbour, port) >= 0 ? 0 : errno);
}

#define SHARING ((Neighbour) {.address = "::", .reuse_address = true})
#define EXCLUSIVE ((Neighbour) {.address = "::"})

/*
 * Who holds the port
 */

/* When a holder of the port sets SO_REUSEADDR. */
typedef enum Reuse
{
	NEVER,
	AT_ONCE,
	LATE,						/* after connect(), or after listen() */
} Reuse;

typedef struct Holder
{
	const char *name;
	void		(*hold) (const struct Holder *holder);
	Reuse		reuse;
	Neighbour	neighbour;		/* for hold_with_socket() */
} Holder;

/* Two ends of a connection, one of them on PORT. */
typedef struct Connection
{
	int			ours;
	int			theirs;
} Connection;

static Connection
outgoing_connection(Reuse reuse)
{
	Connection	connection;
	int			server = listener(true, SERVER_PORT);

	/* Without bind(), as databases connect: the range decides on the port. */
	set_port_range(PORT, PORT);
	connection.ours = unbound_socket(SOCK_STREAM, reuse == AT_ONCE);
	connect_to(connection.ours, "::1", SERVER_PORT);
	require(local_port(connection.ours) == PORT, "connected from port %d",
			local_port(connection.ours));
	if (reuse == LATE)
		allow_reuse(connection.ours);
	connection.theirs = accept_from(server);
	return connection;
}

/* The listener is closed: only the connection holds the port. */
static Connection
accepted_connection(Reuse reuse)
{
	Connection	connection;
	int			server = listener(reuse == AT_ONCE, PORT);

	if (reuse == LATE)
		allow_reuse(server);
	set_port_range(CLIENT_PORT, CLIENT_PORT + 9);
	connection.theirs = unbound_socket(SOCK_STREAM, false);
	connect_to(connection.theirs, "::1", PORT);
	connection.ours = accept_from(server);
	close(server);
	return connection;
}

static void
close_into_time_wait(Connection connection)
{
	char		byte;

	/* The end that closes first keeps the port. */
	close(connection.ours);
	require(read(connection.theirs, &byte, 1) == 0, "no end of file");
	close(connection.theirs);

	/* The last packets may be a soft interrupt away. */
	for (int milliseconds = 0; ports_in_time_wait(PORT, PORT) == 0;
		 milliseconds++)
	{
		require(milliseconds < 5000, "port %d not in TIME_WAIT", PORT);
		usleep(1000);
	}
}

static void
hold_nothing(const Holder *holder)
{
	(void) holder;
}

static void
hold_in_time_wait_outgoing(const Holder *holder)
{
	close_into_time_wait(outgoing_connection(holder->reuse));
}

static void
hold_in_time_wait_accepted(const Holder *holder)
{
	close_into_time_wait(accepted_connection(holder->reuse));
}

static void
hold_outgoing(const Holder *holder)
{
	outgoing_connection(holder->reuse);
}

static void
hold_accepted(const Holder *holder)
{
	accepted_connection(holder->reuse);
}

static void
hold_with_socket(const Holder *holder)
{
	int			fd = require_neighbour(holder->neighbour, PORT);

	if (holder->reuse == LATE)
		allow_reuse(fd);
}

/*
 * Who may bind what
 */

typedef enum Attempt
{
	PICK,						/* bind(0) */
	PICK_SHARED,				/* SO_REUSEADDR, bind(0) */
	NAME,						/* bind(port) */
	NAME_SHARED,				/* SO_REUSEADDR, bind(port), listen() */
	CONNECT,					/* SO_REUSEADDR, connect(), elsewhere */
	CONNECT_NAMED,				/* SO_REUSEADDR, bind(port), connect() */
	ATTEMPTS
} Attempt;

static const char *const attempts[ATTEMPTS] = {
	[PICK] = "bind(0)",
	[PICK_SHARED] = "SO_REUSEADDR, bind(0)",
	[NAME] = "bind(port)",
	[NAME_SHARED] = "SO_REUSEADDR, bind(port), listen()",
	[CONNECT] = "SO_REUSEADDR, connect() to another destination",
	[CONNECT_NAMED] = "SO_REUSEADDR, bind(port), connect() to another destination",
};

/* A row of the table: what the attempts get, with ip_autobind_reuse off. */
typedef struct Row
{
	Holder		holder;
	const char *expected[ATTEMPTS];
	const char *shared_with_autobind_reuse; /* NULL: the same */
} Row;

#define NOBODY_ELSE {"no", "no", "no", "no", "no", "no"}
#define WHO_NAMES_AND_SHARES {"no", "no", "no", "ok", "no", "ok"}

/* connect() chose the port, and shares it. */
#define WHO_CONNECTS {"no", "no", "no", "no", "ok", "no"}
#define WHO_CONNECTS_OR_SHARES {"no", "no", "no", "ok", "ok", "ok"}

static const Row rows[] =
{
	{{"nothing", hold_nothing, NEVER, {0}},
	{"ok", "ok", "ok", "ok", "ok", "ok"}, NULL},

	{{"TIME_WAIT of an outgoing connection with SO_REUSEADDR",
			hold_in_time_wait_outgoing, AT_ONCE, {0}},
	WHO_CONNECTS_OR_SHARES, "ok"},
	{{"TIME_WAIT of an accepted connection, listener with SO_REUSEADDR",
			hold_in_time_wait_accepted, AT_ONCE, {0}},
	WHO_NAMES_AND_SHARES, "ok"},
	{{"TIME_WAIT of an accepted connection, SO_REUSEADDR set after listen()",
			hold_in_time_wait_accepted, LATE, {0}},
	WHO_NAMES_AND_SHARES, "ok"},
	{{"TIME_WAIT of an outgoing connection without SO_REUSEADDR",
			hold_in_time_wait_outgoing, NEVER, {0}},
	WHO_CONNECTS, NULL},
	{{"TIME_WAIT of an accepted connection without SO_REUSEADDR",
			hold_in_time_wait_accepted, NEVER, {0}},
	NOBODY_ELSE, NULL},

	{{"bound, not listening, with SO_REUSEADDR",
			hold_with_socket, AT_ONCE, {.address = "::", .reuse_address = true}},
	WHO_NAMES_AND_SHARES, "ok"},
	{{"bound, not listening, without SO_REUSEADDR",
			hold_with_socket, NEVER, {.address = "::"}},
	NOBODY_ELSE, NULL},

	{{"outgoing connection, SO_REUSEADDR set before connect()",
			hold_outgoing, AT_ONCE, {0}},
	WHO_CONNECTS_OR_SHARES, "ok"},
	{{"outgoing connection, SO_REUSEADDR set after connect()",
			hold_outgoing, LATE, {0}},
	WHO_CONNECTS_OR_SHARES, "ok"},
	{{"outgoing connection without SO_REUSEADDR", hold_outgoing, NEVER, {0}},
	WHO_CONNECTS, NULL},
	{{"accepted connection with SO_REUSEADDR, listener closed",
			hold_accepted, AT_ONCE, {0}},
	WHO_NAMES_AND_SHARES, "ok"},
	{{"accepted connection without SO_REUSEADDR, listener closed",
			hold_accepted, NEVER, {0}},
	NOBODY_ELSE, NULL},

	{{"listener on [::] with SO_REUSEADDR", hold_with_socket, AT_ONCE,
		{.address = "::", .reuse_address = true, .listens = true}},
	NOBODY_ELSE, NULL},
	{{"listener on [::], SO_REUSEADDR set after listen()",
			hold_with_socket, LATE, {.address = "::", .listens = true}},
	NOBODY_ELSE, NULL},
	{{"listener on [::] without SO_REUSEADDR", hold_with_socket, NEVER,
		{.address = "::", .listens = true}},
	NOBODY_ELSE, NULL},
	{{"listener on 0.0.0.0 with SO_REUSEADDR", hold_with_socket, AT_ONCE,
		{.address = "0.0.0.0", .reuse_address = true, .listens = true}},
	NOBODY_ELSE, NULL},
	{{"listener on 127.0.0.1 with SO_REUSEADDR", hold_with_socket, AT_ONCE,
		{.address = "127.0.0.1", .reuse_address = true, .listens = true}},
	NOBODY_ELSE, NULL},
	{{"listener on [::1] with SO_REUSEADDR", hold_with_socket, AT_ONCE,
		{.address = "::1", .reuse_address = true, .listens = true}},
	NOBODY_ELSE, NULL},
};

static void
ask_cell(const Holder *holder, Attempt attempt)
{
	bool		shared = attempt == PICK_SHARED || attempt == NAME_SHARED;
	bool		named = attempt == NAME || attempt == NAME_SHARED;
	Neighbour	neighbour = shared ? SHARING : EXCLUSIVE;
	int			fd;

	holder->hold(holder);
	if (attempt == CONNECT || attempt == CONNECT_NAMED)
	{
		listener(true, NEXT_SERVER_PORT);
		set_port_range(PORT, PORT);
		see("%s", answer_to_connect(connect_from(attempt == CONNECT ? 0 : PORT,
												 NEXT_SERVER_PORT)));
		return;
	}
	set_port_range(PORT, PORT);
	fd = open_neighbour(&neighbour, named ? PORT : 0);
	see("%s", answer_to(fd >= 0 ? 0 : errno));
	if (fd >= 0 && local_port(fd) != PORT)
		see("port %d", local_port(fd));
	else if (fd >= 0 && attempt == NAME_SHARED && listen_on(fd) != 0)
		see("lost in listen()");
}

/*
 * Also measured
 */

static void
ask_exclusive_is_alone(void)
{
	int			ours = bound(false, PORT);
	const char *others = answer_to_neighbour(SHARING, PORT);

	see("others %s, listen() %s", others, answer_to(listen_on(ours)));
}

static void
ask_shared_before_listen(void)
{
	allow_reuse(bound(false, PORT));
	see("others %s", answer_to_neighbour(SHARING, PORT));
}

static void
ask_flag_is_inherited(void)
{
	see("%d", socket_option(accepted_connection(LATE).ours, SOL_SOCKET,
							SO_REUSEADDR));
}

static void
ask_flag_of_earlier_connection(void)
{
	int			server = listener(false, PORT);
	int			client = unbound_socket(SOCK_STREAM, false);

	connect_to(client, "::1", PORT);
	allow_reuse(server);
	see("%d", socket_option(accept_from(server), SOL_SOCKET, SO_REUSEADDR));
}

static void
ask_overlapping_addresses(void)
{
	static const char *const hosts[] = {"::", "0.0.0.0", "127.0.0.1", "::1"};
	char		all[SEEN_SIZE] = "";

	allow_reuse(listener(false, PORT));
	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++)
	{
		Neighbour	neighbour = {.address = hosts[i], .reuse_address = true};

		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s",
				 i > 0 ? " " : "", answer_to_neighbour(neighbour, PORT));
	}
	see("%s", all);
}

static void
ask_second_listen(void)
{
	int			first = bound(true, PORT);
	int			second = bound(true, PORT);
	const char *first_answer = answer_to(listen_on(first));

	see("first %s, second %s", first_answer, answer_to(listen_on(second)));
}

static void
ask_after_refused_bind(void)
{
	int			fd = unbound_socket(SOCK_STREAM, false);

	listener(false, PORT);
	require(bind_to(fd, PORT) == EADDRINUSE, "bind() was not refused");
	see("%s", answer_to(bind_to(fd, PORT + 1)));
}

static void
ask_after_refused_listen(void)
{
	int			first = bound(true, PORT);
	int			second = bound(true, PORT);

	require(listen_on(first) == 0, "listen: %s", strerror(errno));
	require(listen_on(second) == EADDRINUSE, "listen() was not refused");
	see("port %d, bind(): %s", local_port(second),
		answer_to(bind_to(second, PORT + 1)));
}

static void
ask_reserved_ports(void)
{
	const char *picked;

	set_port_range(PORT, PORT);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d", PORT);
	picked = answer_to_neighbour(EXCLUSIVE, 0);
	see("bind(0) %s, bind(port) %s", picked,
		answer_to_neighbour(EXCLUSIVE, PORT));
}

/* Reading a list that does not fit, as src/port_range.rs does. */
static void
ask_long_reserved_list(void)
{
	static char list[500 * 6];
	char		text[2048];
	size_t		length = 0;
	ssize_t		got;
	int			fd;

	for (int port = 30000; port < 31000; port += 2)
		length += snprintf(list + length, sizeof(list) - length, "%s%d",
						   length > 0 ? "," : "", port);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%s", list);
	fd = open("/proc/sys/net/ipv4/ip_local_reserved_ports", O_RDONLY);
	require(fd >= 0, "open: %s", strerror(errno));
	got = read(fd, text, sizeof(text));
	require(got > 0, "read: %s", strerror(errno));
	see("%s newline, then %s", text[got - 1] == '\n' ? "a" : "no",
		read(fd, text, sizeof(text)) == 0 ? "the end" : "more");
}

/* Half of a range of 16: how many of the 8 ports are of the favoured kind? */
#define RANGE 16
#define TAKEN (RANGE / 2)

static int
offset_of(int fd)
{
	int			offset = local_port(fd) - PORT;

	require(0 <= offset && offset < RANGE, "port %d", local_port(fd));
	return offset;
}

static void
ask_parity_of_bind(void)
{
	int			odd = 0;

	set_port_range(PORT, PORT + RANGE - 1);
	for (int i = 0; i < TAKEN; i++)
		odd += offset_of(bound(false, 0)) % 2;
	see("%d of %d", odd, TAKEN);
}

static void
ask_parity_of_connect(void)
{
	int			even = 0;

	listener(true, SERVER_PORT);
	set_port_range(PORT, PORT + RANGE - 1);
	for (int i = 0; i < TAKEN; i++)
	{
		int			fd = unbound_socket(SOCK_STREAM, false);

		connect_to(fd, "::1", SERVER_PORT);
		even += offset_of(fd) % 2 == 0;
	}
	see("%d of %d", even, TAKEN);
}

static void
ask_lower_half(void)
{
	int			lower = 0;

	set_port_range(PORT, PORT + RANGE - 1);
	for (int i = 0; i < TAKEN; i++)
		lower += offset_of(bound(true, 0)) < RANGE / 2;
	see("%d of %d", lower, TAKEN);
}

static void
ask_bindv6only(void)
{
	set_bindv6only(true);
	see("%d", socket_option(socket(AF_INET6, SOCK_STREAM, 0), IPPROTO_IPV6,
							IPV6_V6ONLY));
}

/* An IPv4 socket on the port of an IPv6 wildcard listener. */
static void
see_ipv4_beside_ipv6(bool only_v6)
{
	require_neighbour((Neighbour) {.address = "::", .reuse_address = true,
								   .only_v6 = only_v6, .listens = true}, PORT);
	see("%s", answer_to_neighbour((Neighbour) {"0.0.0.0",
								  .reuse_address = true}, PORT));
}

static void
ask_ipv4_beside_ipv6(void)
{
	see_ipv4_beside_ipv6(false);
}

static void
ask_ipv4_beside_ipv6_only(void)
{
	see_ipv4_beside_ipv6(true);
}

/* What bind(0) gets while PORT is another UDP socket's. */
static void
see_udp_pick(bool reuse)
{
	set_port_range(PORT, PORT);
	require(bind_to(unbound_socket(SOCK_DGRAM, true), PORT) == 0, "bind");
	see("%s", answer_to(bind_to(unbound_socket(SOCK_DGRAM, reuse), 0)));
}

static void
ask_udp_pick(void)
{
	see_udp_pick(false);
}

static void
ask_udp_pick_shared(void)
{
	see_udp_pick(true);
}

static int
datagrams_at(int fd)
{
	char		byte;
	int			count = 0;

	while (recv(fd, &byte, 1, MSG_DONTWAIT) == 1)
		count++;
	return count;
}

static void
ask_udp_receivers(void)
{
	int			receivers[2];
	int			sender = unbound_socket(SOCK_DGRAM, false);
	int			first;
	int			second;

	for (int i = 0; i < 2; i++)
	{
		receivers[i] = unbound_socket(SOCK_DGRAM, true);
		require(bind_to(receivers[i], PORT) == 0, "bind");
	}
	connect_to(sender, "::1", PORT);
	for (int i = 0; i < 8; i++)
		require(send(sender, "x", 1, 0) == 1, "send: %s", strerror(errno));
	first = datagrams_at(receivers[0]);
	second = datagrams_at(receivers[1]);
	require(first + second == 8, "%d and %d of 8 arrived", first, second);
	see("%s", first == 0 || second == 0 ? "one of them" : "both");
}

/*
 * The connecting side
 */

/* Each of the ports in TIME_WAIT, as a listener leaves it. */
static void
leave_range_in_time_wait(void)
{
	for (int port = PORT; port < PORT + RANGE; port++)
	{
		int			server = listener(true, port);

		leave_time_wait(server, "::1");
		close(server);
	}
	set_port_range(PORT, PORT + RANGE - 1);
}

static void
ask_named_ports_serve_each_destination(void)
{
	int			made[2] = {0, 0};
	int			picked = 0;

	leave_range_in_time_wait();
	listener(true, SERVER_PORT);
	listener(true, NEXT_SERVER_PORT);
	for (int i = 0; i < 2; i++)
	{
		int			server_port = i == 0 ? SERVER_PORT : NEXT_SERVER_PORT;

		for (int port = PORT; port < PORT + RANGE; port++)
		{
			/* Eight fit into the backlog; none is accepted. */
			if ((port - PORT) % 8 == 0 && port > PORT)
				server_port += 1, listener(true, server_port);
			picked += connect_from(0, server_port) == 0;
			made[i] += connect_from(port, server_port) == 0;
		}
	}
	see("connect() %d, named %d and %d", picked, made[0], made[1]);
}

static void
ask_named_to_the_same_destination(void)
{
	int			fd = unbound_socket(SOCK_STREAM, true);
	struct sockaddr_in6 address = in6_address(in6addr_loopback, SERVER_PORT);
	const char *answer;

	listener(true, SERVER_PORT);
	require(connect_from(PORT, SERVER_PORT) == 0, "connect: %s",
			strerror(errno));
	require(bind_to(fd, PORT) == 0, "bind: %s", strerror(errno));
	answer = answer_to_connect(connect(fd, (struct sockaddr *) &address,
									   sizeof(address)) == 0 ? 0 : errno);
	see("%s, then bind(): %s", answer, answer_to(bind_to(fd, PORT + 1)));
}

/* What becomes of a port that was named for a connection. */
static void
ask_connect_after_named(void)
{
	listener(true, SERVER_PORT);
	listener(true, NEXT_SERVER_PORT);
	set_port_range(PORT, PORT);
	require(connect_from(PORT, SERVER_PORT) == 0, "connect: %s",
			strerror(errno));
	see("connect() %s, named %s",
		answer_to_connect(connect_from(0, NEXT_SERVER_PORT)),
		answer_to_connect(connect_from(PORT, NEXT_SERVER_PORT)));
}

/* tcp_tw_reuse is a matter of connect()'s own search. */
static void
see_own_time_wait(int reuse, int timestamps, bool named)
{
	set_sysctl("net.ipv4.tcp_tw_reuse", "%d", reuse);
	set_sysctl("net.ipv4.tcp_timestamps", "%d", timestamps);
	close_into_time_wait(outgoing_connection(AT_ONCE));
	set_port_range(PORT, PORT);

	/* A second must pass, and the clocks tick in seconds. */
	if (reuse != 0)
		usleep(2100 * 1000);
	see("%s", answer_to_connect(connect_from(named ? PORT : 0, SERVER_PORT)));
}

static void
ask_own_time_wait(void)
{
	see_own_time_wait(0, 1, false);
}

static void
ask_own_time_wait_later(void)
{
	see_own_time_wait(1, 1, false);
}

static void
ask_own_time_wait_named(void)
{
	see_own_time_wait(0, 1, true);
}

static void
ask_own_time_wait_named_without_timestamps(void)
{
	see_own_time_wait(0, 0, true);
}

static void
ask_connect_to_oneself(void)
{
	see("%s", answer_to_connect(connect_from(PORT, PORT)));
}

/* No socket listens there. getsockname() shows the port either way. */
static void
ask_bind_after_refusal(void)
{
	struct sockaddr_in6 address = in6_address(in6addr_loopback, SERVER_PORT);
	int			answers[2];

	for (int i = 0; i < 2; i++)
	{
		int			fd = unbound_socket(SOCK_STREAM, true);

		if (i == 1)
			require(bind_to(fd, PORT) == 0, "bind: %s", strerror(errno));
		require(connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0 &&
				errno == ECONNREFUSED, "connect was not refused");
		require(local_port(fd) != 0, "the port is not shown");
		answers[i] = bind_to(fd, PORT + 1);
	}
	see("%s, named %s", answer_to(answers[0]), answer_to(answers[1]));
}

static void
ask_named_beside_listener_elsewhere(void)
{
	struct sockaddr_in6 own = in6_address(in6addr_loopback, PORT);
	int			fd = unbound_socket(SOCK_STREAM, true);
	const char *wildcard;

	require_neighbour((Neighbour) {.address = "127.0.0.1",
								   .reuse_address = true,.listens = true}, PORT);
	wildcard = answer_to(bind_to(unbound_socket(SOCK_STREAM, true), PORT));
	see("[::] %s, [::1] %s", wildcard,
		answer_to(bind(fd, (struct sockaddr *) &own, sizeof(own)) == 0 ? 0 :
				  errno));
}

static void
ask_bound_address_only_v6(void)
{
	struct sockaddr_in6 own = in6_address(in6addr_loopback, PORT);
	int			fd = unbound_socket(SOCK_STREAM, false);
	int			before = socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY);

	require(bind(fd, (struct sockaddr *) &own, sizeof(own)) == 0, "bind: %s",
			strerror(errno));
	see("%d, then %d", before, socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY));
}

/*
 * Windows
 */

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define NO_WINDOWS "no such option"

/* False, and that is the answer, where there are none. */
static bool
set_window(int fd, int port_min, int port_max)
{
	unsigned int ends = (unsigned int) port_max << 16 | port_min;

	if (setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &ends,
				   sizeof(ends)) == 0)
		return true;
	require(errno == ENOPROTOOPT, "IP_LOCAL_PORT_RANGE: %s", strerror(errno));
	see(NO_WINDOWS);
	return false;
}

/* What bind(0) gets in a window. */
static const char *
pick_in_window(bool reuse, int port_min, int port_max)
{
	static char answer[2][16];
	static int	turn;
	int			fd = unbound_socket(SOCK_STREAM, reuse);
	int			error;

	turn = 1 - turn;
	if (!set_window(fd, port_min, port_max))
		return NO_WINDOWS;
	error = bind_to(fd, 0);
	if (error != 0)
		return answer_to(error);
	snprintf(answer[turn], sizeof(answer[turn]), "%d", local_port(fd));
	return answer[turn];
}

static void
see_in_window(const char *first, const char *second)
{
	if (strcmp(first, NO_WINDOWS) != 0)
		see("%s, %s", first, second);
}

static void
ask_window_of_one(void)
{
	const char *first;

	set_port_range(PORT, PORT + RANGE - 1);
	first = pick_in_window(false, PORT + 3, PORT + 3);
	see_in_window(first, pick_in_window(true, PORT + 3, PORT + 3));
}

static void
ask_window_is_exclusive(void)
{
	const char *first;

	set_port_range(PORT, PORT + RANGE - 1);
	first = pick_in_window(false, PORT + 3, PORT + 3);
	see_in_window(first, answer_to_neighbour(SHARING, PORT + 3));
}

/* Neither end inside: it does not count. One end: the other is the range's. */
static void
ask_window_outside(void)
{
	const char *first;

	set_port_range(PORT, PORT);
	first = pick_in_window(false, PORT - 9, PORT - 5);
	set_port_range(PORT + 1, PORT + 2);
	see_in_window(first, pick_in_window(false, PORT - 9, PORT + 1));
}

static void
ask_window_of_reserved(void)
{
	const char *first;

	set_port_range(PORT, PORT + RANGE - 1);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d", PORT + 3);
	first = pick_in_window(false, PORT + 3, PORT + 3);
	see_in_window(first, pick_in_window(false, PORT + 3, PORT + 4));
}

static void
ask_window_of_connect(void)
{
	struct sockaddr_in6 address = in6_address(in6addr_loopback, SERVER_PORT);
	int			fd = unbound_socket(SOCK_STREAM, true);

	set_port_range(PORT, PORT + RANGE - 1);
	listener(true, SERVER_PORT);
	if (!set_window(fd, PORT + 5, PORT + 5))
		return;
	require(connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0,
			"connect: %s", strerror(errno));
	see("%d", local_port(fd));
}

/*
 * Later choices, claims and questions
 */

static void
set_no_port(int fd, int on)
{
	require(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
					   sizeof(on)) == 0, "setsockopt: %s", strerror(errno));
}

static void
ask_address_without_port(void)
{
	int			fd = unbound_socket(SOCK_STREAM, true);
	const char *first;

	set_port_range(PORT, PORT);
	listener(true, PORT);
	set_no_port(fd, 1);
	first = answer_to(bind_to(fd, 0));
	set_no_port(fd, 0);
	see("%s, then %s", first, answer_to(bind_to(fd, PORT + 1)));
}

static void
ask_second_backlog(void)
{
	int			fd = listener(false, PORT);
	struct tcp_info info;
	socklen_t	size = sizeof(info);

	require(listen(fd, 16) == 0, "listen: %s", strerror(errno));
	require(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0,
			"TCP_INFO: %s", strerror(errno));
	see("%u", info.tcpi_sacked);
}

static void
ask_listener_that_stops(void)
{
	int			fd = listener(true, PORT);

	listener(true, SERVER_PORT);
	require(shutdown(fd, SHUT_RD) == 0, "shutdown: %s", strerror(errno));
	connect_to(fd, "::1", SERVER_PORT);
	see("port %d, listens %d", local_port(fd),
		socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN));
}

static int
abstract_name(void)
{
	static const struct sockaddr_un name = {AF_UNIX, "\0ic_listener_kernel_facts"};
	int			fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	return bind(fd, (const struct sockaddr *) &name, sizeof(name)) == 0 ? 0 : errno;
}

static void
ask_abstract_names(void)
{
	const char *first = answer_to(abstract_name());
	const char *second = answer_to(abstract_name());

	require(enter_netns() == NULL, "no other network namespace");
	see("%s, %s, elsewhere %s", first, second, answer_to(abstract_name()));
}

/* The state of the connection from PORT to SERVER_PORT, or the errno. */
static void
ask_sock_diag(void)
{
	struct
	{
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	}			question = {
		.header = {.nlmsg_len = sizeof(question), .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		.nlmsg_flags = NLM_F_REQUEST},
		.request = {.sdiag_family = AF_INET6, .sdiag_protocol = IPPROTO_TCP,
			.idiag_states = ~0u, .id = {
				.idiag_sport = htons(PORT), .idiag_dport = htons(SERVER_PORT),
				.idiag_src = {0, 0, 0, htonl(1)}, .idiag_dst = {0, 0, 0, htonl(1)},
		.idiag_cookie = {~0u, ~0u}}}
	};
	char		answer[1024];
	struct nlmsghdr *header = (struct nlmsghdr *) answer;
	int			fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
	int			states[2];

	/* A list of all, which is ENOENT only where nobody answers. */
	question.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	require(send(fd, &question, sizeof(question), 0) == sizeof(question) &&
			recv(fd, answer, sizeof(answer), 0) > 0, "netlink: %s",
			strerror(errno));
	if (header->nlmsg_type == NLMSG_ERROR &&
		((struct nlmsgerr *) NLMSG_DATA(header))->error == -ENOENT)
		skip_child("tcp_diag: a kernel with CONFIG_INET_TCP_DIAG");
	question.header.nlmsg_flags = NLM_F_REQUEST;
	for (int i = 0; i < 2; i++)
	{
		require(send(fd, &question, sizeof(question), 0) == sizeof(question) &&
				recv(fd, answer, sizeof(answer), 0) > 0, "netlink: %s",
				strerror(errno));
		states[i] = header->nlmsg_type == NLMSG_ERROR ?
			((struct nlmsgerr *) NLMSG_DATA(header))->error :
			((struct inet_diag_msg *) NLMSG_DATA(header))->idiag_state;
		if (i == 0)
			close_into_time_wait(outgoing_connection(AT_ONCE));
	}
	see("%s, TIME_WAIT: state %d", states[0] == -ENOENT ? "ENOENT" : "another errno",
		states[1]);
}

typedef struct Measured
{
	const char *name;
	void		(*ask) (void);
	const char *expected;
} Measured;

static const Measured measured[] =
{
	{"bound without SO_REUSEADDR: others before listen(), own listen()",
		ask_exclusive_is_alone, "others no, listen() ok"},
	{"bound without, SO_REUSEADDR set before listen(): others",
		ask_shared_before_listen, "others ok"},
	{"SO_REUSEADDR set after listen(): accepted connections have it",
		ask_flag_is_inherited, "1"},
	{"a connection made before SO_REUSEADDR was set has it",
		ask_flag_of_earlier_connection, "0"},
	{"SO_REUSEADDR, port of a listener on [::]: [::] 0.0.0.0 127.0.0.1 [::1]",
		ask_overlapping_addresses, "no no no no"},
	{"two sockets share the port, one listens, then the other",
		ask_second_listen, "first ok, second no"},
	{"after a refused bind() the same socket gets another port",
		ask_after_refused_bind, "ok"},
	{"after a refused listen() the socket is still bound",
		ask_after_refused_listen, "port 40000, bind(): Invalid argument"},
	{"reserved port",
		ask_reserved_ports, "bind(0) no, bind(port) ok"},
	{"list of reserved ports longer than the buffer: one read gives",
		ask_long_reserved_list, "no newline, then the end"},
	{"bind(0), half of a range: ports with odd offsets",
		ask_parity_of_bind, "8 of 8"},
	{"connect(), half of a range: ports with even offsets",
		ask_parity_of_connect, "8 of 8"},
	{"SO_REUSEADDR, bind(0), half of a range: ports in the lower half",
		ask_lower_half, "8 of 8"},
	{"bindv6only=1: IPV6_V6ONLY of a new socket",
		ask_bindv6only, "1"},
	{"IPv4 beside a listener on [::], IPV6_V6ONLY off",
		ask_ipv4_beside_ipv6, "no"},
	{"IPv4 beside a listener on [::], IPV6_V6ONLY on",
		ask_ipv4_beside_ipv6_only, "ok"},
	{"UDP: bind(0), port held by a socket with SO_REUSEADDR",
		ask_udp_pick, "no"},
	{"UDP: SO_REUSEADDR, bind(0), port held by a socket with it",
		ask_udp_pick_shared, "ok"},
	{"UDP: datagrams to a shared port reach",
		ask_udp_receivers, "one of them"},
	{"16 ports left by listeners, two destinations",
		ask_named_ports_serve_each_destination, "connect() 0, named 16 and 16"},
	{"named port, connection to the same destination",
		ask_named_to_the_same_destination, "no, then bind(): Invalid argument"},
	{"port named for a connection, another destination",
		ask_connect_after_named, "connect() no, named ok"},
	{"own TIME_WAIT, same destination, tcp_tw_reuse=0: connect()",
		ask_own_time_wait, "no"},
	{"own TIME_WAIT, same destination, tcp_tw_reuse=1, 2 s later: connect()",
		ask_own_time_wait_later, "ok"},
	{"own TIME_WAIT, same destination, tcp_tw_reuse=0: bind(port), connect()",
		ask_own_time_wait_named, "ok"},
	{"own TIME_WAIT, same destination, tcp_timestamps=0: bind(port), connect()",
		ask_own_time_wait_named_without_timestamps, "no"},
	{"bind(port), connect() to that port, nobody listens",
		ask_connect_to_oneself, "ok"},
	{"after a refused connection: bind()",
		ask_bind_after_refusal, "ok, named Invalid argument"},
	{"SO_REUSEADDR, port of a listener on 127.0.0.1: bind(port)",
		ask_named_beside_listener_elsewhere, "[::] no, [::1] ok"},
	{"IPV6_V6ONLY, bind() to [::1]",
		ask_bound_address_only_v6, "0, then 1"},
	{"full range, IP_BIND_ADDRESS_NO_PORT, bind(0), the option cleared, bind(port)",
		ask_address_without_port, "ok, then ok"},
	{"listen(8), listen(16): the backlog", ask_second_backlog, "16"},
	{"a listener, shutdown(SHUT_RD), connect()",
		ask_listener_that_stops, "port 40000, listens 0"},
	{"an abstract Unix name, again, in another network namespace",
		ask_abstract_names, "ok, no, elsewhere ok"},
	{"sock_diag about one 4-tuple: nobody has it",
		ask_sock_diag, "ENOENT, TIME_WAIT: state 6"},
};

/* Before Linux 6.3, NO_WINDOWS is the answer. */
static const Measured windows[] =
{
	{"IP_LOCAL_PORT_RANGE of one port: bind(0), again with SO_REUSEADDR",
		ask_window_of_one, "40003, no"},
	{"IP_LOCAL_PORT_RANGE: bind(0), others",
		ask_window_is_exclusive, "40003, no"},
	{"IP_LOCAL_PORT_RANGE outside the range, and half outside: bind(0)",
		ask_window_outside, "40000, 40001"},
	{"IP_LOCAL_PORT_RANGE of a reserved port, and one more: bind(0)",
		ask_window_of_reserved, "no, 40004"},
	{"IP_LOCAL_PORT_RANGE of one port: connect()",
		ask_window_of_connect, "40005"},
};

/*
 * Asking
 */

typedef struct Fact
{
	const char *name;
	const char *expected;
	const char *before_6_3;		/* what older kernels may say as well, or NULL */
	void		(*ask) (void);	/* NULL: it is a cell of the table */
	const Holder *holder;
	Attempt		attempt;
} Fact;

static struct utsname host;
static bool with_autobind_reuse;
static int	asked;
static int	differing;

static void
ask(void *argument)
{
	const Fact *fact = argument;

	see("nothing");
	if (with_autobind_reuse)
		set_sysctl(AUTOBIND_REUSE, "1");
	if (fact->ask != NULL)
		fact->ask();
	else
		ask_cell(fact->holder, fact->attempt);
}

static bool
is_before_6_3(void)
{
	int			major = 0;
	int			minor = 0;

	sscanf(host.release, "%d.%d", &major, &minor);
	return major < 6 || (major == 6 && minor < 3);
}

static void
check(Fact fact)
{
	const char *heading = with_autobind_reuse ? "ip_autobind_reuse=1: " : "";
	char		message[CHILD_MESSAGE_SIZE];
	const char *answer = seen;
	bool		agrees;

	asked++;
	switch (run_in_netns(ask, &fact, message))
	{
		case CHILD_PASSED:
			break;
		case CHILD_FAILED:
			answer = message;
			break;
		case CHILD_SKIPPED:
			printf("ok %d - %s%s # SKIP %s\n", asked, heading, fact.name,
				   message);
			return;
	}
	if (fact.before_6_3 != NULL && strcmp(answer, fact.before_6_3) == 0 &&
		is_before_6_3())
		fact.expected = fact.before_6_3;
	agrees = strcmp(answer, fact.expected) == 0;
	printf("%s %d - %s%s: expected %s, seen %s\n", agrees ? "ok" : "not ok",
		   asked, heading, fact.name, fact.expected, answer);
	differing += !agrees;
}

static void
check_cell(const Row *row, Attempt attempt)
{
	char		name[160];
	const char *expected = row->expected[attempt];

	if (with_autobind_reuse && attempt == PICK_SHARED &&
		row->shared_with_autobind_reuse != NULL)
		expected = row->shared_with_autobind_reuse;
	snprintf(name, sizeof(name), "%s: %s", row->holder.name,
			 attempts[attempt]);
	check((Fact) {
		.name = name,
		.expected = expected,
		.holder = &row->holder,
		.attempt = attempt,
	});
}

static void
check_measured(const Measured *one, const char *before_6_3)
{
	check((Fact) {
		.name = one->name,
		.expected = one->expected,
		.before_6_3 = before_6_3,
		.ask = one->ask,
	});
}

static void
check_all(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
	{
		for (Attempt attempt = 0; attempt < ATTEMPTS; attempt++)
			check_cell(&rows[i], attempt);
	}
	for (size_t i = 0; i < sizeof(measured) / sizeof(*measured); i++)
		check_measured(&measured[i], NULL);
	for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++)
		check_measured(&windows[i], NO_WINDOWS);
}

static void
nothing(void *unused)
{
	(void) unused;
}

int
main(void)
{
	char		message[CHILD_MESSAGE_SIZE];

	setvbuf(stdout, NULL, _IOLBF, 0);
	uname(&host);
	printf("# Linux %s\n", host.release);
	if (socket(AF_INET6, SOCK_STREAM, 0) < 0)
	{
		printf("1..1\nok 1 - kernel_facts # SKIP IPv6: %s; boot without "
			   "ipv6.disable=1\n", strerror(errno));
		return 0;
	}
	if (run_in_netns(nothing, NULL, message) == CHILD_SKIPPED)
	{
		printf("1..1\nok 1 - kernel_facts # SKIP %s\n", message);
		return 0;
	}
	seen = mmap(NULL, SEEN_SIZE, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
	{
		perror("mmap");
		return 1;
	}
	check_all();
	if (has_autobind_reuse())
	{
		with_autobind_reuse = true;
		check_all();
	}
	else
		printf("# this kernel has no " AUTOBIND_REUSE "\n");
	printf("1..%d\n", asked);
	if (differing > 0)
		printf("# Linux %s answers %d of %d questions otherwise than expected\n",
			   host.release, differing, asked);
	return differing > 0;
}
