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
 * kernel answered. The library is not called. src/strategy.rs and
 * src/connection.rs rest on the facts.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "child.h"
#include "crowded.h"
#include "netns.h"

#define PORT 40000				/* what is asked about; even, see parity */
#define SERVER_PORT 50000		/* the other end of outgoing connections */
#define CLIENT_PORT 51000		/* the other end of accepted ones, and up */
#define NEXT_SERVER_PORT 52000	/* another destination */

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

/* What the kernel answers; shared by the child that asks and its parent. */
#define SEEN_SIZE 64
static char *seen;

#define see(...) snprintf(seen, SEEN_SIZE, __VA_ARGS__)

/* Which of several things the question is about. */
static int	with;

/*
 * Sockets
 */

static void
allow_reuse(int fd)
{
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

static int
unbound(bool reuse)
{
	int			fd = stream_socket("::");

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, reuse);
	return fd;
}

static int
bound(bool reuse, int port)
{
	int			fd = unbound(reuse);

	expect_equal(plain_bind(fd, "::", port), 0);
	return fd;
}

static int
listener(bool reuse, int port)
{
	int			fd = bound(reuse, port);

	expect(listen(fd, 64) == 0);
	return fd;
}

static int
errno_of_listen(int fd)
{
	return listen(fd, 8) == 0 ? 0 : errno;
}

/* Without a port, connect() has another errno than bind(). */
static const char *
answer_to(int error)
{
	return error == 0 ? "ok" :
		error == EADDRINUSE || error == EADDRNOTAVAIL ? "no" : strerror(error);
}

/* What a socket gets that asks for the port. */
static const char *
ask_for_port(bool reuse, int port)
{
	return answer_to(plain_bind(unbound(reuse), "::", port));
}

/* 0, or the errno. From a port, unless it is 0. */
static int
connect_from(int from, int to)
{
	int			fd = unbound(true);
	int			error = from != 0 ? plain_bind(fd, "::", from) : 0;

	return error != 0 ? error : plain_connect(fd, "::1", to);
}

static void
require_neighbour(Neighbour neighbour, int port)
{
	require(open_neighbour(&neighbour, port) >= 0, "%s port %d: %s",
			neighbour.address, port, strerror(errno));
}

/*
 * Who holds the port
 */

typedef enum HolderKind
{
	NOTHING, BOUND, LISTENER, OUTGOING, ACCEPTED, OUTGOING_TIME_WAIT, ACCEPTED_TIME_WAIT
} HolderKind;

/* When a holder of the port sets SO_REUSEADDR. */
typedef enum Reuse
{
	NEVER,
	AT_ONCE,
	LATE,						/* after connect(), or after listen() */
} Reuse;

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
	connection.ours = unbound(reuse == AT_ONCE);
	connect_to(connection.ours, "::1", SERVER_PORT);
	expect_equal(local_port(connection.ours), PORT);
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
	connection.theirs = unbound(false);
	connect_to(connection.theirs, "::1", PORT);
	connection.ours = accept_from(server);
	close(server);
	return connection;
}

/* The end that closes first keeps the port. */
static void
close_into_time_wait(Connection connection)
{
	close(connection.ours);
	wait_for_end(connection.theirs);
	close(connection.theirs);

	/* The last packets may be a soft interrupt away. */
	for (int milliseconds = 0; ports_in_time_wait(PORT, PORT) == 0; milliseconds++)
	{
		require(milliseconds < 5000, "port %d not in TIME_WAIT", PORT);
		usleep(1000);
	}
}

static void
hold_port(HolderKind kind, Reuse reuse, const char *address)
{
	Neighbour	neighbour = {address, .reuse_address = reuse == AT_ONCE, .listens = kind == LISTENER};
	int			fd;

	switch (kind)
	{
		case NOTHING:
			break;
		case BOUND:
		case LISTENER:
			fd = open_neighbour(&neighbour, PORT);
			expect(fd >= 0);
			if (reuse == LATE)
				allow_reuse(fd);
			break;
		case OUTGOING:
			outgoing_connection(reuse);
			break;
		case ACCEPTED:
			accepted_connection(reuse);
			break;
		case OUTGOING_TIME_WAIT:
			close_into_time_wait(outgoing_connection(reuse));
			break;
		case ACCEPTED_TIME_WAIT:
			close_into_time_wait(accepted_connection(reuse));
			break;
	}
}

/*
 * Who may bind what
 */

typedef enum Attempt
{
	BIND_ANY, BIND_ANY_SHARED, NAME, NAME_SHARED, CONNECT, CONNECT_NAMED, ATTEMPTS
} Attempt;

static const char *const attempts[ATTEMPTS] = {
	[BIND_ANY] = "bind(0)",
	[BIND_ANY_SHARED] = "SO_REUSEADDR, bind(0)",
	[NAME] = "bind(port)",
	[NAME_SHARED] = "SO_REUSEADDR, bind(port), listen()",
	[CONNECT] = "SO_REUSEADDR, connect() to another destination",
	[CONNECT_NAMED] = "SO_REUSEADDR, bind(port), connect() to another destination",
};

/* What the attempts get. */
#define ANYBODY {"ok", "ok", "ok", "ok", "ok", "ok"}
#define NOBODY_ELSE {"no", "no", "no", "no", "no", "no"}
#define WHO_NAMES_AND_SHARES {"no", "no", "no", "ok", "no", "ok"}

/* connect() chose the port, and shares it. */
#define WHO_CONNECTS {"no", "no", "no", "no", "ok", "no"}
#define WHO_CONNECTS_OR_SHARES {"no", "no", "no", "ok", "ok", "ok"}

static const struct Row
{
	const char *name;
	HolderKind	kind;
	Reuse		reuse;
	const char *address;
	const char *expected[ATTEMPTS];
}			rows[] =
{
	{"nothing", NOTHING, NEVER, "::", ANYBODY},

	{"TIME_WAIT of an outgoing connection with SO_REUSEADDR",
	OUTGOING_TIME_WAIT, AT_ONCE, "::", WHO_CONNECTS_OR_SHARES},
	{"TIME_WAIT of an accepted connection, listener with SO_REUSEADDR",
	ACCEPTED_TIME_WAIT, AT_ONCE, "::", WHO_NAMES_AND_SHARES},
	{"TIME_WAIT of an accepted connection, SO_REUSEADDR set after listen()",
	ACCEPTED_TIME_WAIT, LATE, "::", WHO_NAMES_AND_SHARES},
	{"TIME_WAIT of an outgoing connection without SO_REUSEADDR",
	OUTGOING_TIME_WAIT, NEVER, "::", WHO_CONNECTS},
	{"TIME_WAIT of an accepted connection without SO_REUSEADDR",
	ACCEPTED_TIME_WAIT, NEVER, "::", NOBODY_ELSE},

	{"bound, not listening, with SO_REUSEADDR", BOUND, AT_ONCE, "::", WHO_NAMES_AND_SHARES},
	{"bound, not listening, without SO_REUSEADDR", BOUND, NEVER, "::", NOBODY_ELSE},

	{"outgoing connection, SO_REUSEADDR set before connect()",
	OUTGOING, AT_ONCE, "::", WHO_CONNECTS_OR_SHARES},
	{"outgoing connection, SO_REUSEADDR set after connect()",
	OUTGOING, LATE, "::", WHO_CONNECTS_OR_SHARES},
	{"outgoing connection without SO_REUSEADDR", OUTGOING, NEVER, "::", WHO_CONNECTS},
	{"accepted connection with SO_REUSEADDR, listener closed",
	ACCEPTED, AT_ONCE, "::", WHO_NAMES_AND_SHARES},
	{"accepted connection without SO_REUSEADDR, listener closed",
	ACCEPTED, NEVER, "::", NOBODY_ELSE},

	{"listener on [::] with SO_REUSEADDR", LISTENER, AT_ONCE, "::", NOBODY_ELSE},
	{"listener on [::], SO_REUSEADDR set after listen()", LISTENER, LATE, "::", NOBODY_ELSE},
	{"listener on [::] without SO_REUSEADDR", LISTENER, NEVER, "::", NOBODY_ELSE},
	{"listener on 0.0.0.0 with SO_REUSEADDR", LISTENER, AT_ONCE, "0.0.0.0", NOBODY_ELSE},
	{"listener on 127.0.0.1 with SO_REUSEADDR", LISTENER, AT_ONCE, "127.0.0.1", NOBODY_ELSE},
	{"listener on [::1] with SO_REUSEADDR", LISTENER, AT_ONCE, "::1", NOBODY_ELSE},
};

static void
ask_cell(const struct Row *row, Attempt attempt)
{
	int			fd;
	int			error;

	hold_port(row->kind, row->reuse, row->address);
	if (attempt == CONNECT || attempt == CONNECT_NAMED)
		listener(true, NEXT_SERVER_PORT);
	set_port_range(PORT, PORT);
	if (attempt == CONNECT || attempt == CONNECT_NAMED)
	{
		see("%s", answer_to(connect_from(attempt == CONNECT ? 0 : PORT,
										 NEXT_SERVER_PORT)));
		return;
	}
	fd = unbound(attempt == BIND_ANY_SHARED || attempt == NAME_SHARED);
	error = plain_bind(fd, "::", attempt == NAME || attempt == NAME_SHARED ? PORT : 0);
	see("%s", answer_to(error));
	if (error == 0 && local_port(fd) != PORT)
		see("port %d", local_port(fd));
	else if (error == 0 && attempt == NAME_SHARED && errno_of_listen(fd) != 0)
		see("lost in listen()");
}

/*
 * Sharing a port, and listening on it
 */

static void
ask_exclusive_is_alone(void)
{
	int			ours = bound(false, PORT);
	const char *others = ask_for_port(true, PORT);

	see("others %s, listen() %s", others, answer_to(errno_of_listen(ours)));
}

static void
ask_shared_before_listen(void)
{
	allow_reuse(bound(false, PORT));
	see("others %s", ask_for_port(true, PORT));
}

static void
ask_flag_of_earlier_connection(void)
{
	int			server = listener(false, PORT);

	connect_to(unbound(false), "::1", PORT);
	allow_reuse(server);
	see("%d", socket_option(accept_from(server), SOL_SOCKET, SO_REUSEADDR));
}

static void
ask_after_refused_bind(void)
{
	int			fd = unbound(false);

	listener(false, PORT);
	expect_equal(plain_bind(fd, "::", PORT), EADDRINUSE);
	see("%s", answer_to(plain_bind(fd, "::", PORT + 1)));
}

static void
ask_second_listen(void)
{
	int			first = bound(true, PORT);
	int			second = bound(true, PORT);
	const char *answer;

	expect_equal(errno_of_listen(first), 0);
	answer = answer_to(errno_of_listen(second));
	see("%s, port %d, bind(): %s", answer, local_port(second),
		answer_to(plain_bind(second, "::", PORT + 1)));
}

/*
 * Reserved ports, and the order of a search
 */

static void
ask_reserved_ports(void)
{
	const char *picked;

	set_port_range(PORT, PORT);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d", PORT);
	picked = ask_for_port(false, 0);
	see("bind(0) %s, bind(port) %s", picked, ask_for_port(false, PORT));
}

/* Reading a list that does not fit, as src/port_range.rs does. */
static void
ask_long_reserved_list(void)
{
	static char list[500 * 6];
	char		text[512];
	size_t		length = 0;
	ssize_t		got;
	int			fd;

	for (int port = 30000; port < 31000; port += 2)
		length += sprintf(list + length, "%d,", port);
	list[length - 1] = '\0';
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%s", list);
	fd = open("/proc/sys/net/ipv4/ip_local_reserved_ports", O_RDONLY);
	got = read(fd, text, sizeof(text));
	require(got > 0, "read: %s", strerror(errno));
	see("%s newline, then %s", text[got - 1] == '\n' ? "a" : "no",
		read(fd, text, sizeof(text)) == 0 ? "the end" : "more");
}

/* Half of a range of 16: how many of the 8 ports are of the favoured kind? */
#define RANGE 16
#define TAKEN (RANGE / 2)

typedef enum Favoured
{
	ODD_IN_BIND, EVEN_IN_CONNECT, LOWER_HALF
} Favoured;

static void
ask_order(void)
{
	int			count = 0;

	listener(true, SERVER_PORT);
	set_port_range(PORT, PORT + RANGE - 1);
	for (int i = 0; i < TAKEN; i++)
	{
		int			fd = unbound(with == LOWER_HALF);
		int			offset;

		if (with == EVEN_IN_CONNECT)
			connect_to(fd, "::1", SERVER_PORT);
		else
			expect_equal(plain_bind(fd, "::", 0), 0);
		offset = local_port(fd) - PORT;
		require(0 <= offset && offset < RANGE, "port %d", local_port(fd));
		count += with == LOWER_HALF ? offset < RANGE / 2 :
			offset % 2 == (with == ODD_IN_BIND);
	}
	see("%d of %d", count, TAKEN);
}

/*
 * IPv6 and UDP
 */

/* An IPv4 socket on the port of an IPv6 wildcard listener. */
static void
ask_ipv4_beside_ipv6(void)
{
	int			fd = stream_socket("0.0.0.0");

	require_neighbour((Neighbour) {"::", .reuse_address = true, .only_v6 = with,
					  .listens = true}, PORT);
	allow_reuse(fd);
	see("%s", answer_to(plain_bind(fd, "0.0.0.0", PORT)));
}

static void
ask_bound_address_only_v6(void)
{
	int			fd = unbound(false);
	int			before = socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY);

	expect_equal(plain_bind(fd, "::1", PORT), 0);
	see("%d, then %d", before, socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY));
}

static int
udp_socket(bool reuse)
{
	int			fd = socket(AF_INET6, SOCK_DGRAM, 0);

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, reuse);
	return fd;
}

/* What bind(0) gets while PORT is another UDP socket's. */
static void
ask_udp_pick(void)
{
	set_port_range(PORT, PORT);
	expect_equal(plain_bind(udp_socket(true), "::", PORT), 0);
	see("%s", answer_to(plain_bind(udp_socket(with), "::", 0)));
}

/*
 * The connecting side
 */

static void
ask_named_ports_serve_each_destination(void)
{
	static const int servers[] = {SERVER_PORT, NEXT_SERVER_PORT};
	int			made[2] = {0, 0};
	int			picked = 0;

	crowd(PORT, PORT + RANGE - 1);
	for (int i = 0; i < 2; i++)
	{
		listener(true, servers[i]);
		for (int port = PORT; port < PORT + RANGE; port++)
		{
			picked += connect_from(0, servers[i]) == 0;
			made[i] += connect_from(port, servers[i]) == 0;
		}
	}
	see("connect() %d, named %d and %d", picked, made[0], made[1]);
}

static void
ask_named_to_the_same_destination(void)
{
	int			fd = unbound(true);
	const char *answer;

	listener(true, SERVER_PORT);
	expect_equal(connect_from(PORT, SERVER_PORT), 0);
	expect_equal(plain_bind(fd, "::", PORT), 0);
	answer = answer_to(plain_connect(fd, "::1", SERVER_PORT));
	see("%s, then bind(): %s", answer, answer_to(plain_bind(fd, "::", PORT + 1)));
}

/* What becomes of a port that was named for a connection. */
static void
ask_connect_after_named(void)
{
	const char *picked;

	listener(true, SERVER_PORT);
	listener(true, NEXT_SERVER_PORT);
	set_port_range(PORT, PORT);
	expect_equal(connect_from(PORT, SERVER_PORT), 0);
	picked = answer_to(connect_from(0, NEXT_SERVER_PORT));
	see("connect() %s, named %s", picked, answer_to(connect_from(PORT, NEXT_SERVER_PORT)));
}

/* tcp_tw_reuse is a matter of connect()'s own search. */
typedef enum TimeWait
{
	PICKED, NAMED, NAMED_WITHOUT_TIMESTAMPS
} TimeWait;

static void
ask_own_time_wait(void)
{
	set_sysctl("net.ipv4.tcp_tw_reuse", "0");
	set_sysctl("net.ipv4.tcp_timestamps", "%d", with != NAMED_WITHOUT_TIMESTAMPS);
	close_into_time_wait(outgoing_connection(AT_ONCE));
	see("%s", answer_to(connect_from(with == PICKED ? 0 : PORT, SERVER_PORT)));
}

static void
ask_connect_to_oneself(void)
{
	see("%s", answer_to(connect_from(PORT, PORT)));
}

/* No socket listens there. getsockname() shows the port either way. */
static void
ask_bind_after_refusal(void)
{
	int			answers[2];

	for (int i = 0; i < 2; i++)
	{
		int			fd = i == 0 ? unbound(true) : bound(true, PORT);

		expect_equal(plain_connect(fd, "::1", SERVER_PORT), ECONNREFUSED);
		expect(!has_no_port(fd));
		answers[i] = plain_bind(fd, "::", PORT + 1);
	}
	see("%s, named %s", answer_to(answers[0]), answer_to(answers[1]));
}

static void
ask_named_beside_listener_elsewhere(void)
{
	const char *wildcard;

	require_neighbour((Neighbour) {"127.0.0.1", .reuse_address = true, .listens = true},
					  PORT);
	wildcard = ask_for_port(true, PORT);
	see("[::] %s, [::1] %s", wildcard, answer_to(plain_bind(unbound(true), "::1", PORT)));
}

/*
 * Windows
 */

/* What bind(0) gets in a window. */
static const char *
pick_in_window(bool reuse, int port_min, int port_max)
{
	static char answers[2][16];
	static int	turn;
	char	   *answer = answers[turn++ % 2];
	int			fd = unbound(reuse);
	int			error;

	set_window(fd, port_min, port_max);
	error = plain_bind(fd, "::", 0);
	if (error != 0)
		return answer_to(error);
	snprintf(answer, sizeof(answers[0]), "%d", local_port(fd));
	return answer;
}

static void
ask_window_of_one(void)
{
	const char *first;
	const char *second;

	set_port_range(PORT, PORT + RANGE - 1);
	first = pick_in_window(false, PORT + 3, PORT + 3);
	second = pick_in_window(true, PORT + 3, PORT + 3);
	see("%s, %s, %s", first, second, ask_for_port(true, PORT + 3));
}

/* Neither end inside: it does not count. One end: the other is the range's. */
static void
ask_window_outside(void)
{
	const char *first;

	set_port_range(PORT, PORT);
	first = pick_in_window(false, PORT - 9, PORT - 5);
	set_port_range(PORT + 1, PORT + 2);
	see("%s, %s", first, pick_in_window(false, PORT - 9, PORT + 1));
}

static void
ask_window_of_reserved(void)
{
	const char *first;

	set_port_range(PORT, PORT + RANGE - 1);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d", PORT + 3);
	first = pick_in_window(false, PORT + 3, PORT + 3);
	see("%s, %s", first, pick_in_window(false, PORT + 3, PORT + 4));
}

static void
ask_window_of_connect(void)
{
	int			fd = unbound(true);

	set_port_range(PORT, PORT + RANGE - 1);
	listener(true, SERVER_PORT);
	set_window(fd, PORT + 5, PORT + 5);
	connect_to(fd, "::1", SERVER_PORT);
	see("%d", local_port(fd));
}

/*
 * Later choices, claims and questions
 */

static void
ask_address_without_port(void)
{
	int			fd = unbound(true);
	const char *first;

	set_port_range(PORT, PORT);
	listener(true, PORT);
	set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	first = answer_to(plain_bind(fd, "::", 0));
	set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0);
	see("%s, then %s", first, answer_to(plain_bind(fd, "::", PORT + 1)));
}

static void
ask_listener_that_stops(void)
{
	int			fd = listener(true, PORT);

	listener(true, SERVER_PORT);
	expect(shutdown(fd, SHUT_RD) == 0);
	connect_to(fd, "::1", SERVER_PORT);
	see("port %d, listens %d", local_port(fd), socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN));
}

static const char *
ask_for_abstract_name(void)
{
	static const struct sockaddr_un name = {AF_UNIX, "\0ic_listener_kernel_facts"};
	int			fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	return answer_to(bind(fd, (const struct sockaddr *) &name, sizeof(name)) == 0 ? 0 :
					 errno);
}

static void
ask_abstract_names(void)
{
	const char *first = ask_for_abstract_name();
	const char *second = ask_for_abstract_name();

	expect(enter_netns() == NULL);
	see("%s, %s, elsewhere %s", first, second, ask_for_abstract_name());
}

/* The state of the connection from PORT to SERVER_PORT, or the errno below 0. */
static int
ask_sock_diag_with(int flags)
{
	struct
	{
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	}			question = {
		.header = {.nlmsg_len = sizeof(question), .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		.nlmsg_flags = NLM_F_REQUEST | flags},
		.request = {.sdiag_family = AF_INET6, .sdiag_protocol = IPPROTO_TCP,
			.idiag_states = ~0u, .id = {
				.idiag_sport = htons(PORT), .idiag_dport = htons(SERVER_PORT),
				.idiag_src = {0, 0, 0, htonl(1)}, .idiag_dst = {0, 0, 0, htonl(1)},
		.idiag_cookie = {~0u, ~0u}}}
	};
	char		answer[1024];
	struct nlmsghdr *header = (struct nlmsghdr *) answer;
	int			fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);

	require(send(fd, &question, sizeof(question), 0) == sizeof(question) &&
			recv(fd, answer, sizeof(answer), 0) > 0, "netlink: %s", strerror(errno));
	close(fd);
	return header->nlmsg_type == NLMSG_ERROR ?
		((struct nlmsgerr *) NLMSG_DATA(header))->error :
		((struct inet_diag_msg *) NLMSG_DATA(header))->idiag_state;
}

static void
ask_sock_diag(void)
{
	int			state;

	/* A list is ENOENT only where nobody answers. */
	if (ask_sock_diag_with(NLM_F_DUMP) == -ENOENT)
		skip_child("tcp_diag: a kernel with CONFIG_INET_TCP_DIAG");
	state = ask_sock_diag_with(0);
	close_into_time_wait(outgoing_connection(AT_ONCE));
	see("%s, TIME_WAIT: state %d", state == -ENOENT ? "ENOENT" : "another errno",
		ask_sock_diag_with(0));
}

typedef struct Fact
{
	const char *name;
	void		(*ask) (void);
	int			with;
	const char *expected;
} Fact;

static const Fact facts[] =
{
	{"bound without SO_REUSEADDR: others before listen(), own listen()",
	ask_exclusive_is_alone, 0, "others no, listen() ok"},
	{"bound without, SO_REUSEADDR set before listen(): others",
	ask_shared_before_listen, 0, "others ok"},
	{"a connection made before SO_REUSEADDR was set has it",
	ask_flag_of_earlier_connection, 0, "0"},
	{"after a refused bind() the same socket gets another port",
	ask_after_refused_bind, 0, "ok"},
	{"two sockets share the port, one listens, then the other",
	ask_second_listen, 0, "no, port 40000, bind(): Invalid argument"},
	{"reserved port", ask_reserved_ports, 0, "bind(0) no, bind(port) ok"},
	{"list of reserved ports longer than the buffer: one read gives",
	ask_long_reserved_list, 0, "no newline, then the end"},
	{"bind(0), half of a range: ports with odd offsets", ask_order, ODD_IN_BIND, "8 of 8"},
	{"connect(), half of a range: ports with even offsets",
	ask_order, EVEN_IN_CONNECT, "8 of 8"},
	{"SO_REUSEADDR, bind(0), half of a range: ports in the lower half",
	ask_order, LOWER_HALF, "8 of 8"},
	{"IPv4 beside a listener on [::], IPV6_V6ONLY off", ask_ipv4_beside_ipv6, false, "no"},
	{"IPv4 beside a listener on [::], IPV6_V6ONLY on", ask_ipv4_beside_ipv6, true, "ok"},
	{"UDP: bind(0), port held by a socket with SO_REUSEADDR", ask_udp_pick, false, "no"},
	{"UDP: SO_REUSEADDR, bind(0), port held by a socket with it", ask_udp_pick, true, "ok"},
	{"16 ports left by listeners, two destinations",
	ask_named_ports_serve_each_destination, 0, "connect() 0, named 16 and 16"},
	{"named port, connection to the same destination",
	ask_named_to_the_same_destination, 0, "no, then bind(): Invalid argument"},
	{"port named for a connection, another destination",
	ask_connect_after_named, 0, "connect() no, named ok"},
	{"own TIME_WAIT, same destination, tcp_tw_reuse=0: connect()",
	ask_own_time_wait, PICKED, "no"},
	{"own TIME_WAIT, same destination, tcp_tw_reuse=0: bind(port), connect()",
	ask_own_time_wait, NAMED, "ok"},
	{"own TIME_WAIT, same destination, tcp_timestamps=0: bind(port), connect()",
	ask_own_time_wait, NAMED_WITHOUT_TIMESTAMPS, "no"},
	{"bind(port), connect() to that port, nobody listens", ask_connect_to_oneself, 0, "ok"},
	{"after a refused connection: bind()",
	ask_bind_after_refusal, 0, "ok, named Invalid argument"},
	{"SO_REUSEADDR, port of a listener on 127.0.0.1: bind(port)",
	ask_named_beside_listener_elsewhere, 0, "[::] no, [::1] ok"},
	{"IPV6_V6ONLY, bind() to [::1]", ask_bound_address_only_v6, 0, "0, then 1"},
	{"full range, IP_BIND_ADDRESS_NO_PORT, bind(0), the option cleared, bind(port)",
	ask_address_without_port, 0, "ok, then ok"},
	{"a listener, shutdown(SHUT_RD), connect()",
	ask_listener_that_stops, 0, "port 40000, listens 0"},
	{"an abstract Unix name, again, in another network namespace",
	ask_abstract_names, 0, "ok, no, elsewhere ok"},
	{"sock_diag about one 4-tuple: nobody has it",
	ask_sock_diag, 0, "ENOENT, TIME_WAIT: state 6"},
};

/* Since Linux 6.3. */
static const Fact windows[] =
{
	{"IP_LOCAL_PORT_RANGE of one port: bind(0), again with SO_REUSEADDR, bind(port) with it",
	ask_window_of_one, 0, "40003, no, no"},
	{"IP_LOCAL_PORT_RANGE outside the range, and half outside: bind(0)",
	ask_window_outside, 0, "40000, 40001"},
	{"IP_LOCAL_PORT_RANGE of a reserved port, and one more: bind(0)",
	ask_window_of_reserved, 0, "no, 40004"},
	{"IP_LOCAL_PORT_RANGE of one port: connect()", ask_window_of_connect, 0, "40005"},
};

/*
 * Asking
 */

static bool with_autobind_reuse;
static int	asked;
static int	differing;

static void
check(const char *name, const char *expected, void (*ask) (void *argument), void *argument)
{
	const char *heading = with_autobind_reuse ? "ip_autobind_reuse=1: " : "";
	char		message[CHILD_MESSAGE_SIZE];
	ChildOutcome outcome;
	bool		agrees;

	see("nothing");
	outcome = run_in_netns(ask, argument, message);
	agrees = outcome == CHILD_PASSED && strcmp(seen, expected) == 0;
	printf("%s %d - %s%s", agrees || outcome == CHILD_SKIPPED ? "ok" : "not ok", ++asked,
		   heading, name);
	if (outcome == CHILD_SKIPPED)
		printf(" # SKIP %s\n", message);
	else
		printf(": expected %s, seen %s\n", expected,
			   outcome == CHILD_PASSED ? seen : message);
	differing += !agrees && outcome != CHILD_SKIPPED;
}

typedef struct Cell
{
	const struct Row *row;
	Attempt		attempt;
} Cell;

static void
set_autobind_reuse(void)
{
	if (with_autobind_reuse)
		set_sysctl(AUTOBIND_REUSE, "1");
}

static void
ask_cell_in_child(void *argument)
{
	const Cell *cell = argument;

	set_autobind_reuse();
	ask_cell(cell->row, cell->attempt);
}

static void
ask_fact_in_child(void *argument)
{
	const Fact *fact = argument;

	set_autobind_reuse();
	with = fact->with;
	fact->ask();
}

static void
check_all(bool has_windows)
{
	char		name[160];

	for (size_t i = 0; i < lengthof(rows) * ATTEMPTS; i++)
	{
		Cell		cell = {&rows[i / ATTEMPTS], i % ATTEMPTS};

		snprintf(name, sizeof(name), "%s: %s", cell.row->name, attempts[cell.attempt]);
		/* ip_autobind_reuse lets bind(0) share what bind(port) can share. */
		check(name, cell.row->expected[with_autobind_reuse && cell.attempt == BIND_ANY_SHARED ?
									   NAME_SHARED : cell.attempt],
			  ask_cell_in_child, &cell);
	}
	for (size_t i = 0; i < lengthof(facts); i++)
		check(facts[i].name, facts[i].expected, ask_fact_in_child, (void *) &facts[i]);
	for (size_t i = 0; i < lengthof(windows) && has_windows; i++)
		check(windows[i].name, windows[i].expected, ask_fact_in_child, (void *) &windows[i]);
}

static void
need_ipv6(void *unused)
{
	(void) unused;
	skip_without_ipv6();
}

int
main(void)
{
	char		message[CHILD_MESSAGE_SIZE];
	struct utsname host;
	bool		has_windows = kernel_has_windows();

	setvbuf(stdout, NULL, _IOLBF, 0);
	uname(&host);
	printf("# Linux %s\n", host.release);
	if (run_in_netns(need_ipv6, NULL, message) == CHILD_SKIPPED)
	{
		printf("1..1\nok 1 - kernel_facts # SKIP %s\n", message);
		return 0;
	}
	seen = mmap(NULL, SEEN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
	{
		perror("mmap");
		return 1;
	}
	if (!has_windows)
		printf("# this kernel has no IP_LOCAL_PORT_RANGE\n");
	check_all(has_windows);
	if (!has_autobind_reuse())
		printf("# this kernel has no " AUTOBIND_REUSE "\n");
	else
	{
		with_autobind_reuse = true;
		check_all(has_windows);
	}
	printf("1..%d\n", asked);
	if (differing > 0)
		printf("# Linux %s answers %d of %d questions otherwise than expected\n",
			   host.release, differing, asked);
	return differing > 0;
}
