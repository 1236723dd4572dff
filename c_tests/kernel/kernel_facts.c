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
 * The library is not called. src/strategy.rs and src/connection.rs rest on the
 * facts. (Where the kernel says otherwise of sock_diag(7), claims and addresses
 * without a port, connecting and drop_in fail.)
 */
#define _GNU_SOURCE

#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>
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

/* The question, and which of several things it is about. */
static void (*ask) (void);
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

/*
 * Who holds the port
 */

typedef enum HolderKind
{
	NOTHING, BOUND, LISTENER, OUTGOING, NAMED_OUTGOING, ACCEPTED
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
hold_port(HolderKind kind, Reuse reuse, bool time_wait)
{
	Connection	connection;
	int			fd;

	switch (kind)
	{
		case NOTHING:
			break;
		case BOUND:
		case LISTENER:
			fd = bound(reuse == AT_ONCE, PORT);
			expect(kind == BOUND || listen(fd, 64) == 0);
			if (reuse == LATE)
				allow_reuse(fd);
			break;
		case NAMED_OUTGOING:
			listener(true, SERVER_PORT);
			expect_equal(connect_from(PORT, SERVER_PORT), 0);
			break;
		case OUTGOING:
		case ACCEPTED:
			connection = kind == OUTGOING ? outgoing_connection(reuse) : accepted_connection(reuse);
			if (time_wait)
				close_into_time_wait(connection);
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
	[BIND_ANY] = ": bind(0)",
	[BIND_ANY_SHARED] = ": SO_REUSEADDR, bind(0)",
	[NAME] = ": bind(port)",
	[NAME_SHARED] = ": SO_REUSEADDR, bind(port), listen()",
	[CONNECT] = ": SO_REUSEADDR, connect() to another destination",
	[CONNECT_NAMED] = ": SO_REUSEADDR, bind(port), connect() to another destination",
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
	bool		time_wait;
	const char *expected[ATTEMPTS];
}			rows[] =
{
	{"nothing", NOTHING, NEVER, false, ANYBODY},

	{"TIME_WAIT of an outgoing connection with SO_REUSEADDR",
	OUTGOING, AT_ONCE, true, WHO_CONNECTS_OR_SHARES},
	{"TIME_WAIT of an accepted connection, listener with SO_REUSEADDR",
	ACCEPTED, AT_ONCE, true, WHO_NAMES_AND_SHARES},
	{"TIME_WAIT of an accepted connection, SO_REUSEADDR set after listen()",
	ACCEPTED, LATE, true, WHO_NAMES_AND_SHARES},
	{"TIME_WAIT of an outgoing connection without SO_REUSEADDR",
	OUTGOING, NEVER, true, WHO_CONNECTS},
	{"TIME_WAIT of an accepted connection without SO_REUSEADDR",
	ACCEPTED, NEVER, true, NOBODY_ELSE},

	{"bound, not listening, with SO_REUSEADDR", BOUND, AT_ONCE, false, WHO_NAMES_AND_SHARES},
	{"bound, not listening, without SO_REUSEADDR", BOUND, NEVER, false, NOBODY_ELSE},

	{"outgoing connection, SO_REUSEADDR set before connect()",
	OUTGOING, AT_ONCE, false, WHO_CONNECTS_OR_SHARES},
	{"outgoing connection, SO_REUSEADDR set after connect()",
	OUTGOING, LATE, false, WHO_CONNECTS_OR_SHARES},
	{"outgoing connection without SO_REUSEADDR", OUTGOING, NEVER, false, WHO_CONNECTS},
	{"outgoing connection with SO_REUSEADDR, bound by name",
	NAMED_OUTGOING, AT_ONCE, false, WHO_NAMES_AND_SHARES},
	{"accepted connection with SO_REUSEADDR, listener closed",
	ACCEPTED, AT_ONCE, false, WHO_NAMES_AND_SHARES},
	{"accepted connection without SO_REUSEADDR, listener closed",
	ACCEPTED, NEVER, false, NOBODY_ELSE},

	{"listener with SO_REUSEADDR", LISTENER, AT_ONCE, false, NOBODY_ELSE},
	{"listener, SO_REUSEADDR set after listen()", LISTENER, LATE, false, NOBODY_ELSE},
	{"listener without SO_REUSEADDR", LISTENER, NEVER, false, NOBODY_ELSE},
};

/* One row, and in "with" the attempt. */
static const struct Row *row;

static void
ask_cell(void)
{
	bool		connects = with == CONNECT || with == CONNECT_NAMED;
	int			fd;
	int			error;

	hold_port(row->kind, row->reuse, row->time_wait);
	if (connects)
		listener(true, NEXT_SERVER_PORT);
	set_port_range(PORT, PORT);
	if (connects)
	{
		see("%s", answer_to(connect_from(with == CONNECT ? 0 : PORT, NEXT_SERVER_PORT)));
		return;
	}
	fd = unbound(with == BIND_ANY_SHARED || with == NAME_SHARED);
	error = plain_bind(fd, "::", with == NAME || with == NAME_SHARED ? PORT : 0);
	see("%s", answer_to(error));
	if (error == 0 && local_port(fd) != PORT)
		see("port %d", local_port(fd));
	else if (error == 0 && with == NAME_SHARED && errno_of_listen(fd) != 0)
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

/* Half of a range of 16: how many of the 8 ports are at odd offsets? */
#define RANGE 16
#define TAKEN (RANGE / 2)

static void
ask_order(void)
{
	int			count = 0;

	listener(true, SERVER_PORT);
	set_port_range(PORT, PORT + RANGE - 1);
	for (int i = 0; i < TAKEN; i++)
	{
		int			fd = unbound(false);

		if (with == CONNECT)
			connect_to(fd, "::1", SERVER_PORT);
		else
			expect_equal(plain_bind(fd, "::", 0), 0);
		count += local_port(fd) % 2;
	}
	see("%d of %d", count, TAKEN);
}

/*
 * IPv6 and UDP
 */

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
	int			fd = stream_socket("127.0.0.1");

	allow_reuse(fd);
	expect_equal(plain_bind(fd, "127.0.0.1", PORT), 0);
	expect(listen(fd, 8) == 0);
	wildcard = ask_for_port(true, PORT);
	see("[::] %s, [::1] %s", wildcard, answer_to(plain_bind(unbound(true), "::1", PORT)));
}

/*
 * Windows
 */

/*
 * The range and the window, from PORT on. PORT + 5 is reserved, PORT + 7 is
 * held. Of a window one end of which lies outside, the other end counts.
 */
static const int windows[][4] = {
	{0, 15, 3, 3}, {0, 15, 5, 5}, {0, 15, 5, 6}, {0, 15, 7, 7}, {0, 0, -9, -5}, {1, 2, -9, 1}
};

static void
ask_window(void)
{
	const int  *window = windows[with];
	int			fd = unbound(false);

	if (!kernel_has_windows())
		skip_child("IP_LOCAL_PORT_RANGE: Linux 6.3");
	bound(true, PORT + 7);
	set_port_range(PORT + window[0], PORT + window[1]);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "%d", PORT + 5);
	set_window(fd, PORT + window[2], PORT + window[3]);
	if (plain_bind(fd, "::", 0) == 0)
		see("port %d", local_port(fd));
	else
		see("no");
}

static void
ask_window_of_connect(void)
{
	int			fd = unbound(true);

	if (!kernel_has_windows())
		skip_child("IP_LOCAL_PORT_RANGE: Linux 6.3");
	set_port_range(PORT, PORT + RANGE - 1);
	listener(true, SERVER_PORT);
	set_window(fd, PORT + 5, PORT + 5);
	connect_to(fd, "::1", SERVER_PORT);
	see("port %d", local_port(fd));
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
	{"a connection made before SO_REUSEADDR was set has it",
	ask_flag_of_earlier_connection, 0, "0"},
	{"after a refused bind() the same socket gets another port",
	ask_after_refused_bind, 0, "ok"},
	{"two sockets share the port, one listens, then the other",
	ask_second_listen, 0, "no, port 40000, bind(): Invalid argument"},
	{"reserved port", ask_reserved_ports, 0, "bind(0) no, bind(port) ok"},
	{"bind(0), half of a range: ports at odd offsets", ask_order, BIND_ANY, "8 of 8"},
	{"connect(), half of a range: ports at odd offsets", ask_order, CONNECT, "0 of 8"},
	{"UDP: bind(0), port held by a socket with SO_REUSEADDR", ask_udp_pick, false, "no"},
	{"UDP: SO_REUSEADDR, bind(0), port held by a socket with it", ask_udp_pick, true, "ok"},
	{"named port, connection to the same destination",
	ask_named_to_the_same_destination, 0, "no, then bind(): Invalid argument"},
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
	{"bind(0) in an IP_LOCAL_PORT_RANGE of one port", ask_window, 0, "port 40003"},
	{"bind(0) in an IP_LOCAL_PORT_RANGE of a reserved port", ask_window, 1, "no"},
	{"bind(0) in an IP_LOCAL_PORT_RANGE of a reserved port and one more",
	ask_window, 2, "port 40006"},
	{"bind(0) in an IP_LOCAL_PORT_RANGE of a held port", ask_window, 3, "no"},
	{"bind(0) in an IP_LOCAL_PORT_RANGE outside the range", ask_window, 4, "port 40000"},
	{"bind(0) in an IP_LOCAL_PORT_RANGE half outside the range", ask_window, 5, "port 40001"},
	{"connect() in an IP_LOCAL_PORT_RANGE of one port", ask_window_of_connect, 0, "port 40005"},
};

/*
 * Asking
 */

static bool with_autobind_reuse;
static int	asked;
static int	differing;

static void
ask_in_child(void *unused)
{
	(void) unused;
	skip_without_ipv6();
	if (with_autobind_reuse)
		set_sysctl(AUTOBIND_REUSE, "1");
	ask();
}

/* A line of TAP. */
static void
check(const char *name, const char *question, const char *expected)
{
	char		message[CHILD_MESSAGE_SIZE];
	ChildOutcome outcome;
	bool		agrees;

	see("nothing");
	outcome = run_in_netns(ask_in_child, NULL, message);
	agrees = outcome == CHILD_SKIPPED ||
		(outcome == CHILD_PASSED && strcmp(seen, expected) == 0);
	printf("%s %d - %s%s%s", agrees ? "ok" : "not ok", ++asked,
		   with_autobind_reuse ? "ip_autobind_reuse=1: " : "", name, question);
	if (outcome == CHILD_SKIPPED)
		printf(" # SKIP %s\n", message);
	else
		printf(": expected %s, seen %s\n", expected,
			   outcome == CHILD_PASSED ? seen : message);
	differing += !agrees;
}

static void
check_all(void)
{
	ask = ask_cell;
	for (row = rows; row < rows + lengthof(rows); row++)
	{
		/* ip_autobind_reuse lets bind(0) share what bind(port) can share. */
		for (with = 0; with < ATTEMPTS; with++)
			check(row->name, attempts[with],
				  row->expected[with_autobind_reuse && with == BIND_ANY_SHARED ?
								NAME_SHARED : with]);
	}
	for (const Fact *fact = facts; fact < facts + lengthof(facts); fact++)
	{
		ask = fact->ask;
		with = fact->with;
		check(fact->name, "", fact->expected);
	}
}

int
main(void)
{
	struct utsname host;

	setvbuf(stdout, NULL, _IOLBF, 0);
	uname(&host);
	printf("# Linux %s\n", host.release);
	seen = mmap(NULL, SEEN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
	{
		perror("mmap");
		return 1;
	}
	check_all();
	with_autobind_reuse = has_autobind_reuse();
	if (with_autobind_reuse)
		check_all();
	printf("1..%d\n", asked);
	return differing > 0;
}
