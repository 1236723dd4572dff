/*
 * census.c
 *		Who holds the ports: sockets are brought into every state on
 *		purpose, and counted, by netlink and by /proc.
 *
 * The kernel confirms each state before the census: wait_for_state() reads
 * /proc/net/tcp itself. (Sockets that are only bound are not listed there.
 * Only netlink shows them, from Linux 6.8 on.)
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

/* The ports that are counted, and the port of their peers. */
#define PORT_MIN 40000
#define PORT_MAX 40063
#define PORTS (PORT_MAX - PORT_MIN + 1)
#define PEER_PORT 20000

/* include/net/tcp_states.h of the kernel; BOUND is not among them. */
typedef enum State
{
	ESTABLISHED = 1,
	SYN_SENT,
	SYN_RECV,
	FIN_WAIT1,
	FIN_WAIT2,
	TIME_WAIT,
	CLOSE,
	CLOSE_WAIT,
	LAST_ACK,
	LISTEN,
	CLOSING,
	BOUND
} State;

/* Made on purpose, and how many of each. */
static const struct
{
	State		state;
	const char *name;
	int			number;
}			states[] =
{
	{LISTEN, "LISTEN", 3}, {BOUND, "bound", 4}, {SYN_SENT, "SYN_SENT", 2},
	{ESTABLISHED, "ESTABLISHED", 1}, {CLOSE_WAIT, "CLOSE_WAIT", 3},
	{FIN_WAIT1, "FIN_WAIT1", 1}, {FIN_WAIT2, "FIN_WAIT2", 2},
	{CLOSING, "CLOSING", 1}, {LAST_ACK, "LAST_ACK", 1},
	{TIME_WAIT, "TIME_WAIT", 8}
};

/* IPv4, IPv6, and IPv4 through an IPv6 socket. */
static const char *const hosts[] = {"127.0.0.1", "::1", "::ffff:127.0.0.1"};

#define IPV4 0
#define IPV6 1

/* The library's recv() and its clock, which the linker's --wrap leads here. */
static struct
{
	bool		active;
	int			recvs;
	int			looks;
	int			cut_at;			/* at this recv() or read()... */
	int			length;			/* so many bytes come */
	uint16_t	refusal;		/* or a message of this type */
	int			clock_jump_at;	/* two seconds pass at this look */
}			stage;

static ssize_t
refuse(void *buffer)
{
	struct
	{
		struct nlmsghdr header;
		int			error;
	}			message = {{sizeof(message), stage.refusal, 0, 0, 0}, -ENOENT};

	memcpy(buffer, &message, sizeof(message));
	return sizeof(message);
}

#define WRAP_INPUT(name, parameters, arguments) \
	extern ssize_t __real_##name parameters; \
	extern ssize_t __wrap_##name parameters; \
	ssize_t \
	__wrap_##name parameters \
	{ \
		bool		cut = stage.active && ++stage.recvs == stage.cut_at; \
		ssize_t		length; \
		\
		if (cut && stage.refusal != 0) \
			return refuse(buffer); \
		length = __real_##name arguments; \
		return cut && length > stage.length ? stage.length : length; \
	}

WRAP_INPUT(recv, (int fd, void *buffer, size_t size, int flags),
		   (fd, buffer, size, flags))
WRAP_INPUT(read, (int fd, void *buffer, size_t size), (fd, buffer, size))

extern int	__real_clock_gettime(clockid_t clock, struct timespec *now);
extern int	__wrap_clock_gettime(clockid_t clock, struct timespec *now);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int			result = __real_clock_gettime(clock, now);

	if (stage.active && clock == CLOCK_THREAD_CPUTIME_ID &&
		++stage.looks >= stage.clock_jump_at && stage.clock_jump_at != 0)
		now->tv_sec += 2;
	return result;
}

/*
 * Sockets in every state
 */

/* On loopback too, a packet may wait for a softirq. */
static void
wait_for_state(int port, State state)
{
	for (int i = 0; !ports_in_state(state).has[port]; i++)
	{
		require(i < 5000, "port %d does not get to state %d", port, state);
		poll(NULL, 0, 1);
	}
}

/* A socket bound there, non-blocking. */
static int
bound_socket(int host, int port)
{
	Neighbour	neighbour = {.address = hosts[host]};
	int			fd = open_neighbour(&neighbour, port);

	require(fd >= 0, "%s port %d: %s", hosts[host], port, strerror(errno));
	expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	return fd;
}

static void
start_connecting(int fd, int host, int port)
{
	int			error = plain_connect(fd, hosts[host], port);

	require(error == 0 || error == EINPROGRESS, "%s", strerror(error));
}

/* One for each family, made at its first use. */
static int
peer_listener(int host)
{
	static int	listeners[3];

	if (listeners[host] == 0)
		listeners[host] = server_on(hosts[host], PEER_PORT + host);
	return listeners[host];
}

/* Connections to it stay in SYN_SENT: the queue has room for one. */
static int
silent_port(int host)
{
	static bool filled[3];
	int			port = PEER_PORT + 10 + host;

	if (!filled[host])
	{
		expect(listen(bound_socket(host, port), 0) == 0);
		start_connecting(bound_socket(host, port + 10), host, port);
		wait_for_state(port + 10, ESTABLISHED);
	}
	filled[host] = true;
	return port;
}

/* Closes a socket whose FIN waits behind data that nobody reads. */
static void
close_with_data(int fd)
{
	static const char data[65536];

	for (int full = 0; full < 5;)
	{
		if (send(fd, data, sizeof(data), MSG_DONTWAIT) >= 0)
			full = 0;
		else
		{
			expect_equal(errno, EAGAIN);
			full++;
			poll(NULL, 0, 2);
		}
	}
	close(fd);
}

/* Brings a socket on that port into that state, where it stays. */
static int
make(State state, int host, int port)
{
	int			mine = bound_socket(host, port);
	int			peer;

	if (state == BOUND)
		return mine;
	if (state == LISTEN)
	{
		expect(listen(mine, 8) == 0);
		return mine;
	}
	if (state == SYN_SENT)
	{
		start_connecting(mine, host, silent_port(host));
		wait_for_state(port, SYN_SENT);
		return mine;
	}
	start_connecting(mine, host, local_port(peer_listener(host)));
	peer = accept_from(peer_listener(host));
	switch (state)
	{
		case CLOSE_WAIT:
			close(peer);
			break;
		case FIN_WAIT1:
			close_with_data(mine);
			break;
		case FIN_WAIT2:
			expect(shutdown(mine, SHUT_WR) == 0);
			break;
		case CLOSING:
			close_with_data(mine);
			wait_for_state(port, FIN_WAIT1);
			expect(shutdown(peer, SHUT_WR) == 0);
			break;
		case LAST_ACK:
			expect(shutdown(peer, SHUT_WR) == 0);
			wait_for_state(port, CLOSE_WAIT);
			close_with_data(mine);
			break;
		case TIME_WAIT:
			close(mine);
			wait_for_end(peer);
			close(peer);
			break;
		default:
			break;
	}
	wait_for_state(port, state);
	return mine;
}

/*
 * Counting
 */

/* Where a census comes from in a test. */
typedef struct Source
{
	const char *name;
	IcListenerCensusSource source;
	bool		shows_bound;
} Source;

static Source
by_netlink(void)
{
	Source		source = {"netlink", IC_LISTENER_CENSUS_SOURCE_NETLINK, false};
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	struct utsname kernel;
	int			major = 0;
	int			minor = 0;

	expect(ic_listener_census(NULL, &census) == 0);
	if (census.holders.source != IC_LISTENER_CENSUS_SOURCE_NETLINK)
		skip_child("sock_diag: a kernel with CONFIG_INET_TCP_DIAG");
	expect(uname(&kernel) == 0);
	expect(sscanf(kernel.release, "%d.%d", &major, &minor) == 2);
	source.shows_bound = major > 6 || (major == 6 && minor >= 8);
	return source;
}

static Source
by_proc(void)
{
	Source		source = {"/proc", IC_LISTENER_CENSUS_SOURCE_PROC, false};
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	/* Where the kernel has no sock_diag, there is nothing to refuse. */
	expect(ic_listener_census(NULL, &census) == 0);
	if (census.holders.source != IC_LISTENER_CENSUS_SOURCE_PROC)
		refuse_call(SYS_socket, 0, AF_NETLINK, EPERM);
	return source;
}

/* One test for each source, so that one that is missing skips its own only. */
#define TEST_SOURCES_IN_NETNS(promise) \
	static void promise##_body(const Source *source); \
	static void \
	promise##_from(void *source_of) \
	{ \
		Source		source = ((Source (*) (void)) source_of) (); \
		\
		skip_without_ipv6(); \
		now_doing("%s", source.name); \
		promise##_body(&source); \
	} \
	static void \
	promise##_by_netlink(void **state) \
	{ \
		(void) state; \
		assert_passes_in_netns(promise##_from, by_netlink); \
	} \
	static void \
	promise##_by_proc(void **state) \
	{ \
		(void) state; \
		assert_passes_in_netns(promise##_from, by_proc); \
	} \
	static void \
	promise##_body(const Source *source)

#define test_sources(promise) \
	test(promise##_by_netlink), test(promise##_by_proc)

static void
count_in(State state, IcListenerCensus *expected)
{
	switch (state)
	{
		case LISTEN:
			expected->holders.listening++;
			break;
		case BOUND:
			expected->holders.bound++;
			break;
		case SYN_SENT:
		case ESTABLISHED:
		case CLOSE_WAIT:
			expected->holders.connected++;
			break;
		case TIME_WAIT:
			expected->holders.time_wait++;
			break;
		default:
			expected->holders.closing++;
	}
}

static int
try_census(const char *address, int port_min, int port_max,
		   IcListenerCensus *census)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	OpenFds		before = open_fds();
	int			returned;

	options.address = address;
	options.port_min = port_min;
	options.port_max = port_max;
	memset(census, 0xee, sizeof(*census));
	census->size = sizeof(*census);
	stage.recvs = stage.looks = 0;
	stage.active = true;
	returned = ic_listener_census(&options, census);
	stage.active = false;
	expect(open_fds_are(&before, -1));
	expect(strnlen(census->message, sizeof(census->message)) > 0);
	return returned;
}

static IcListenerCensus
take_census(const char *address, int port_min, int port_max)
{
	IcListenerCensus census;

	require(try_census(address, port_min, port_max, &census) == 0,
			"%s (errno %d)", census.message, errno);
	expect_equal(census.error, 0);
	expect_equal(census.holders.complete, 1);
	expect_equal(census.port_min, port_min);
	expect_equal(census.port_max, port_max);
	expect_equal(census.ports, port_max - port_min + 1);
	expect_equal(census.ports, census.holders.listening + census.holders.bound +
				 census.holders.connected + census.holders.closing +
				 census.holders.time_wait + census.holders.unseen);
	return census;
}

/* The times are those of new TIME_WAITs. */
static void
expect_counts(const IcListenerCensus *census, const IcListenerCensus *expected,
			  const Source *source)
{
	expect_equal(census->holders.source, source->source);
	expect_equal(census->holders.listening, expected->holders.listening);
	expect_equal(census->holders.bound,
				 source->shows_bound ? expected->holders.bound : 0);
	expect_equal(census->holders.connected, expected->holders.connected);
	expect_equal(census->holders.closing, expected->holders.closing);
	expect_equal(census->holders.time_wait, expected->holders.time_wait);
	if (expected->holders.time_wait == 0)
		expect(census->holders.time_wait_next_s == 0 && census->holders.time_wait_last_s == 0);
	else
		expect(census->holders.time_wait_next_s >= 30 &&
			   census->holders.time_wait_next_s <= census->holders.time_wait_last_s &&
			   census->holders.time_wait_last_s <= 60);
}

/* Each state alone, on one port, in each family. */
TEST_SOURCES_IN_NETNS(every_state_is_counted_as_what_it_is)
{
	int			port = PORT_MIN;

	for (int host = 0; host < 3; host++)
	{
		for (size_t i = 0; i < lengthof(states); i++, port++)
		{
			IcListenerCensus expected = {.size = 0};
			IcListenerCensus census;

			now_doing("%s, %s on %s", source->name, states[i].name, hosts[host]);
			make(states[i].state, host, port);
			count_in(states[i].state, &expected);
			census = take_census(NULL, port, port);
			expect_counts(&census, &expected, source);
		}
	}
}

/* All at once, each kind in another number. */
TEST_SOURCES_IN_NETNS(every_port_is_counted_once)
{
	IcListenerCensus expected = {.size = 0};
	IcListenerCensus census;
	int			port = PORT_MIN;

	for (size_t i = 0; i < lengthof(states); i++)
	{
		for (int count = 0; count < states[i].number; count++)
		{
			make(states[i].state, count % 3, port++);
			count_in(states[i].state, &expected);
		}
	}
	census = take_census(NULL, PORT_MIN, PORT_MAX);
	expect_counts(&census, &expected, source);

	/* A part of the range: the ports beside it are not counted. */
	census = take_census(NULL, PORT_MIN, PORT_MIN + 1);
	expect_equal(census.holders.listening, 2);
	expect_equal(census.holders.unseen, 0);
}

/* IPv4 and IPv6 on one port, in the same state and in different ones. */
TEST_SOURCES_IN_NETNS(the_strongest_holder_of_a_port_counts)
{
	static const State from_strong_to_weak[] = {
		LISTEN, BOUND, ESTABLISHED, FIN_WAIT2, TIME_WAIT
	};
	int			port = PORT_MIN;

	for (size_t strong = 0; strong < 5; strong++)
	{
		for (size_t weak = strong; weak < 5; weak++)
		{
			for (int swapped = 0; swapped <= 1; swapped++, port++)
			{
				State		strongest = from_strong_to_weak[strong];
				IcListenerCensus expected = {.size = 0};
				IcListenerCensus census;

				now_doing("%s, states %d and %d", source->name, strongest,
						  from_strong_to_weak[weak]);
				make(strongest, swapped ? IPV6 : IPV4, port);
				make(from_strong_to_weak[weak], swapped ? IPV4 : IPV6, port);
				if (strongest == BOUND && !source->shows_bound)
					strongest = from_strong_to_weak[weak];
				count_in(strongest, &expected);
				census = take_census(NULL, port, port);
				expect_counts(&census, &expected, source);
			}
		}
	}
}

/* A listener and what it has accepted, in all states, are one holder. */
TEST_SOURCES_IN_NETNS(a_listener_with_connections_is_one_holder)
{
	IcListenerCensus expected = {.holders.listening = 1};
	IcListenerCensus census;
	int			listener = make(LISTEN, IPV4, PORT_MIN);

	for (int i = 0; i < 20; i++)
	{
		int			client = bound_socket(IPV4, 30000 + i);
		int			server;

		start_connecting(client, IPV4, PORT_MIN);
		server = accept_from(listener);
		if (i % 2 == 0)
			close(server);
		if (i % 4 == 0)
			close(client);
	}
	census = take_census(NULL, PORT_MIN, PORT_MAX);
	expect_counts(&census, &expected, source);
	expect_in(census.message, ": 1 listener, 63 without a holder");
}

/* A port is free when the last TIME_WAIT on it ends, and not before. */
TEST_SOURCES_IN_NETNS(the_last_time_wait_on_a_port_counts)
{
	IcListenerCensus census;

	make(TIME_WAIT, IPV4, PORT_MAX);
	expect_equal(take_census(NULL, PORT_MAX, PORT_MAX).holders.time_wait_next_s, 60);

	/* The others' 60 seconds begin later than those of the first. */
	poll(NULL, 0, 2100);
	make(TIME_WAIT, IPV4, PORT_MIN);
	census = take_census(NULL, PORT_MIN, PORT_MAX);
	expect_equal(census.holders.time_wait, 2);
	require(census.holders.time_wait_next_s >= 50 && census.holders.time_wait_next_s <= 58,
			"the next is free in %u s", census.holders.time_wait_next_s);
	expect_equal(census.holders.time_wait_last_s, 60);
	expect_in(census.message, "2 in TIME_WAIT (the next is free in ");

	/* Another one, in the other family, on the first port. */
	make(TIME_WAIT, IPV6, PORT_MAX);
	census = take_census(NULL, PORT_MAX, PORT_MAX);
	expect_equal(census.holders.time_wait, 1);
	expect_equal(census.holders.time_wait_next_s, 60);
	expect_equal(census.holders.source, source->source);
}

/* Only sockets count that are in the way of the address. */
TEST_SOURCES_IN_NETNS(only_what_is_in_the_way_of_the_address_counts)
{
	static const Neighbour neighbours[] = {
		{.address = "127.0.0.1", .listens = true},
		{.address = "127.0.0.2", .listens = true},
		{.address = "0.0.0.0", .listens = true},
		{.address = "::1", .only_v6 = true, .listens = true},
		{.address = "::", .listens = true},
		{.address = "::", .only_v6 = true, .listens = true},
	};
	/* x for each of the neighbours that is in the way. */
	static const char *const cases[][2] = {
		{NULL, "xxxxxx"}, {"::", "xxxxxx"}, {"0.0.0.0", "xxx.x."},
		{"127.0.0.1", "x.x.x."}, {"::ffff:127.0.0.2", ".xx.x."},
		{"::1", "...xxx"},
	};

	for (size_t n = 0; n < lengthof(neighbours); n++)
		expect(open_neighbour(&neighbours[n], PORT_MIN + n) >= 0);
	for (size_t i = 0; i < lengthof(cases) * lengthof(neighbours); i++)
	{
		const char *const *one = cases[i / lengthof(neighbours)];
		int			n = i % lengthof(neighbours);
		/* /proc does not show that it takes IPv6 only. */
		bool		counts = one[1][n] == 'x' ||
			(n == 5 && source->source == IC_LISTENER_CENSUS_SOURCE_PROC);

		now_doing("%s, address %s, neighbour %d", source->name, one[0], n);
		expect_equal(take_census(one[0], PORT_MIN + n, PORT_MIN + n).holders.listening,
					 counts);
	}
}

/* The host's range without its reserved ports, unless the options name one. */
TEST_SOURCES_IN_NETNS(reserved_ports_of_the_host_do_not_count)
{
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40001,40010-40019");
	make(LISTEN, IPV4, PORT_MIN);
	make(LISTEN, IPV4, PORT_MIN + 1);
	expect_equal(ic_listener_census(NULL, &census), 0);
	expect_equal(census.holders.source, source->source);
	expect_equal(census.port_min, PORT_MIN);
	expect_equal(census.port_max, PORT_MAX);
	expect_equal(census.ports, PORTS - 11);
	expect_equal(census.holders.listening, 1);
	expect_equal(census.holders.unseen, PORTS - 12);
	expect_in(census.message, "53 ports in 40000-40063: 1 listener, "
			  "52 without a holder");
	expect_equal(take_census(NULL, PORT_MIN, PORT_MAX).holders.listening, 2);
}

/*
 * In reports
 */

TEST_SOURCES_IN_NETNS(a_call_that_fails_says_who_holds_the_ports)
{
	IcListenerReport report;

	set_port_range(PORT_MIN, PORT_MIN + 12);
	for (int i = 0; i < 5; i++)
		make(TIME_WAIT, i % 3, PORT_MIN + i);
	for (int i = 5; i < 8; i++)
		make(ESTABLISHED, IPV4, PORT_MIN + i);
	make(LISTEN, IPV6, PORT_MIN + 8);
	make(FIN_WAIT2, IPV6, PORT_MIN + 9);
	for (int i = 10; i < 13; i++)
		make(BOUND, IPV4, PORT_MIN + i);
	report = refused(&tcp, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
					 "no port to listen on in 40000-40012: 13 tried, "
					 "13 in use: 5 in TIME_WAIT without SO_REUSEADDR (");
	expect_equal(report.holders.source, source->source);
	expect_equal(report.holders.complete, 1);
	expect_equal(report.holders.time_wait, 5);
	expect_equal(report.holders.connected, 3);
	expect_equal(report.holders.listening, 1);
	expect_equal(report.holders.closing, 1);

	/* Who only bound is not seen everywhere. */
	expect_equal(report.holders.bound, source->shows_bound ? 3 : 0);
	expect_equal(report.holders.unseen, source->shows_bound ? 0 : 3);
	expect(report.holders.time_wait_next_s >= 30);
	expect(report.holders.time_wait_last_s >= report.holders.time_wait_next_s);
	expect_in(report.message, source->shows_bound ? "3 bound" : "3 unknown");
}

/*
 * A port that has a connection to the destination is held, and not in use:
 * its holder shares it.
 */
TEST_IN_NETNS(a_connection_that_fails_says_who_holds_the_ports)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;

	by_netlink();
	peer_listener(IPV4);
	set_port_range(PORT_MIN, PORT_MIN + 4);
	make(LISTEN, IPV4, PORT_MIN);
	make(LISTEN, IPV4, PORT_MIN + 1);
	make(TIME_WAIT, IPV4, PORT_MIN + 2);
	for (int i = 0; i <= 2; i++)
		expect_equal(ic_connect(stream_socket(hosts[IPV4]), hosts[IPV4],
								PEER_PORT, &report), i < 2 ? 0 : EADDRNOTAVAIL);
	expect_equal(report.holders.source, IC_LISTENER_CENSUS_SOURCE_NETLINK);
	/* The TIME_WAIT is one of a connection there. */
	expect_equal(report.ports_in_use, 2);
	expect_equal(report.connections_taken, 3);
	expect_equal(report.holders.listening, 2);
	expect_equal(report.holders.connected, 2);
	expect_equal(report.holders.time_wait, 1);
	expect_equal(report.holders.unseen, 0);
	expect_in(report.message, "no port to connect from in 40000-40004: 5 tried");
}

/* The UDP sockets, not the TCP ones. */
TEST_SOURCES_IN_NETNS(udp_ports_are_held_by_udp_sockets)
{
	static const char *const peers[] = {NULL, "127.0.0.1", "::1"};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;
	Call		holder;

	options.port_min = options.port_max = PORT_MIN;
	make(LISTEN, IPV4, PORT_MIN);
	for (size_t i = 0; i < lengthof(peers); i++)
	{
		now_doing("%s, connected to %s", source->name, peers[i]);
		holder = opens(&udp, &options);
		if (peers[i] != NULL)
			connect_to(holder.fd, peers[i], PORT_MIN);
		report = refused(&udp, &options, EADDRINUSE, IC_LISTENER_STEP_BIND, "1 in use");
		expect_equal(report.holders.source, source->source);
		expect_equal(report.holders.listening, 0);
		expect_equal(report.holders.bound, i == 0);
		expect_equal(report.holders.connected, i > 0);
		expect_equal(report.holders.unseen, 0);
		close(holder.fd);
	}
}

/*
 * Where a source fails (faults/faults.c has the system calls)
 */

TEST_IN_NETNS(without_proc_netlink_is_enough)
{
	IcListenerCensus census;

	by_netlink();
	make(LISTEN, IPV4, PORT_MIN);
	make(TIME_WAIT, IPV4, PORT_MIN + 1);
	enter_mount_namespace();
	mount_empty_over("/proc/sys");
	expect_equal(try_census(NULL, 0, 0, &census), -1);
	expect_equal(errno, ENOENT);
	expect_in(census.message, "range");
	census = take_census(NULL, PORT_MIN, PORT_MAX);
	expect_equal(census.holders.source, IC_LISTENER_CENSUS_SOURCE_NETLINK);
	expect_equal(census.holders.listening, 1);
	expect_equal(census.holders.time_wait, 1);
}

TEST_IN_NETNS(without_either_source_the_holders_are_unknown)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	Call		call;

	options.port_min = options.port_max = PORT_MIN;
	make(LISTEN, IPV4, PORT_MIN);
	by_proc();
	enter_mount_namespace();
	mount_empty_over("/proc");
	expect_equal(ic_listener_census(&options, &census), -1);
	expect_equal(errno, ENOENT);
	expect_equal(census.error, ENOENT);
	expect_equal(census.holders.source, IC_LISTENER_CENSUS_SOURCE_NONE);
	call = open_listener(&options);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.holders.source, IC_LISTENER_CENSUS_SOURCE_NONE);
	expect_equal(call.report.holders.complete, 0);
	expect_equal(call.report.holders.unseen, 0);
	expect(strcmp(call.report.message, "no port to listen on in 40000-40000: "
				  "1 tried, 1 in use") == 0);
}

/* Answers that are cut off, at every length; only the rest is lost. */
TEST_SOURCES_IN_NETNS(answers_may_be_cut_off)
{
	make(LISTEN, IPV4, PORT_MIN + 1);
	make(LISTEN, IPV6, PORT_MIN + 2);
	make(TIME_WAIT, IPV4, PORT_MIN + 3);
	stage.cut_at = 1;
	for (stage.length = 1; stage.length < 200; stage.length++)
	{
		IcListenerCensus census;

		now_doing("%s, %d bytes", source->name, stage.length);
		census = take_census(NULL, PORT_MIN, PORT_MAX);
		expect(census.holders.listening <= 2 && census.holders.time_wait <= 1);
		expect(census.holders.listening + census.holders.time_wait >= 1);
	}
}

/* A kernel without sock_diag, or whose dump breaks off, says so in a message. */
TEST_IN_NETNS(a_refusal_by_netlink_is_understood)
{
	static const uint16_t types[] = {NLMSG_ERROR, NLMSG_DONE};
	IcListenerCensus census;
	int			answers;

	by_netlink();
	make(LISTEN, IPV4, PORT_MIN);
	make(BOUND, IPV4, PORT_MIN + 1);
	take_census(NULL, PORT_MIN, PORT_MAX);
	answers = stage.recvs;
	for (size_t i = 0; i < lengthof(types); i++)
	{
		stage.refusal = types[i];
		for (stage.cut_at = 1; stage.cut_at <= answers; stage.cut_at++)
		{
			now_doing("message of type %d, recv #%d", types[i], stage.cut_at);
			census = take_census(NULL, PORT_MIN, PORT_MAX);
			expect_equal(census.holders.source, IC_LISTENER_CENSUS_SOURCE_PROC);
			expect_equal(census.holders.listening, 1);
			/* What netlink showed before is forgotten. */
			expect_equal(census.holders.bound, 0);
		}
	}
}

/* Half a second of CPU time at most. */
TEST_SOURCES_IN_NETNS(a_census_that_takes_too_long_is_cut_short)
{
	Neighbour	neighbour = {.address = "::", .listens = true};
	Ports		ports = ports_from_to(PORT_MIN, PORT_MIN + 1023);
	int			looks;

	hold_ports(&neighbour, &ports);
	take_census(NULL, PORT_MIN, PORT_MIN + 1023);
	looks = stage.looks;
	expect(looks >= 4);
	for (int at = 2; at <= looks; at++)
	{
		IcListenerCensus census;

		now_doing("%s, the clock jumps at look %d of %d", source->name, at, looks);
		stage.clock_jump_at = at;
		expect_equal(try_census(NULL, PORT_MIN, PORT_MIN + 1023, &census), 0);
		expect(stage.looks <= at + 1);
		expect_equal(census.holders.source, source->source);
		expect_equal(census.holders.complete, 0);
		expect_in(census.message, " (not counted to the end)");
	}
}

/* A thread in another network namespace sees that one's sockets. */
static void *
count_elsewhere(void *census)
{
	if (unshare(CLONE_NEWNET) != 0)
		return "unshare";
	return ic_listener_census(NULL, census) == 0 ? NULL : "census";
}

TEST_SOURCES_IN_NETNS(a_thread_counts_in_its_own_namespace)
{
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	pthread_t	thread;
	void	   *failed;

	make(LISTEN, IPV4, 50000);
	expect_equal(take_census(NULL, 50000, 50000).holders.listening, 1);
	expect(pthread_create(&thread, NULL, count_elsewhere, &census) == 0);
	expect(pthread_join(thread, &failed) == 0);
	require(failed == NULL, "%s failed", (char *) failed);
	expect_equal(census.holders.source, source->source);
	expect_equal(census.holders.listening, 0);
}

TEST(options_that_cannot_be_used_are_refused)
{
	static const struct
	{
		IcListenerOptions options;
		const char *message;
	}			cases[] = {
		{{.size = sizeof(IcListenerOptions) - 1}, "size"},
		{{.size = sizeof(IcListenerOptions), .address = "localhost"}, "numeric"},
		{{.size = sizeof(IcListenerOptions), .address = "224.0.0.1"}, "unicast"},
		{{.size = sizeof(IcListenerOptions), .backlog = -1}, "backlog"},
		{{.size = sizeof(IcListenerOptions), .port_min = 2, .port_max = 1}, "port"},
		{{.size = sizeof(IcListenerOptions), .port_min = 1, .port_max = 65536}, "port"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

		now_doing("case %zu", i);
		expect_equal(ic_listener_census(&cases[i].options, &census), -1);
		expect_equal(errno, EINVAL);
		expect_equal(census.error, EINVAL);
		expect_equal(census.holders.source, IC_LISTENER_CENSUS_SOURCE_NONE);
		expect_equal(census.ports, 0);
		expect_in(census.message, cases[i].message);
	}
	expect_equal(ic_listener_census(NULL, NULL), -1);
	expect_equal(errno, EINVAL);
}

/*
 * Costs
 */

/* CPU time, which other processes do not change. */
static uint64_t
nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

/*
 * As a share of the failed call before it; the best of some rounds, by turns.
 * Netlink stays near it; /proc costs the kernel two to three times as much.
 */
TEST_SOURCES_IN_NETNS(a_full_range_is_counted_in_the_time_of_the_call)
{
	Neighbour	neighbour = {.address = "::", .listens = true};
	Ports		all = ports_from_to(32768, 60999);
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census;
	uint64_t	best[2] = {UINT64_MAX, UINT64_MAX};

	hold_ports(&neighbour, &all);
	options.port_min = 32768;
	options.port_max = 60999;
	for (int i = 0; i < 10; i++)
	{
		uint64_t	start = nanoseconds();
		uint64_t	took;
		int			port;
		int			fd;

		if (i % 2 == 0)
			expect_equal(ic_listener_open_tcp(&options, &port, &fd, NULL), -1);
		else
		{
			expect_equal(try_census(NULL, 32768, 60999, &census), 0);
			if (!census.holders.complete)
				skip_child("a faster processor: the census was cut short");
			expect_equal(census.holders.listening, 28232);
		}
		took = nanoseconds() - start;
		best[i % 2] = took < best[i % 2] ? took : best[i % 2];
	}
	printf("# %s: the call %.1f ms of CPU time, the census %.1f\n",
		   source->name, best[0] / 1e6, best[1] / 1e6);
	expect(best[1] <= best[0] *
		   (source->source == IC_LISTENER_CENSUS_SOURCE_NETLINK ? 3 : 6));
}

/* One byte for each port number, 32 KiB to read into, and no malloc(). */
TEST_IN_NETNS(a_census_takes_96_kib)
{
	for (int kib = 64; kib <= 128; kib += 32)
	{
		struct rlimit limit;
		IcListenerCensus census;
		long		pages;
		int			returned;

		now_doing("%d KiB", kib);
		expect(proc_numbers("/proc/self/statm", 1, &pages));
		expect(getrlimit(RLIMIT_AS, &limit) == 0);
		limit.rlim_cur = pages * sysconf(_SC_PAGESIZE) + kib * 1024;
		expect(setrlimit(RLIMIT_AS, &limit) == 0);
		census = (IcListenerCensus) IC_LISTENER_CENSUS_INIT;
		returned = ic_listener_census(NULL, &census);
		limit.rlim_cur = limit.rlim_max;
		expect(setrlimit(RLIMIT_AS, &limit) == 0);
		expect_equal(returned, kib < 96 ? -1 : 0);
		expect_equal(census.error, kib < 96 ? ENOMEM : 0);
	}
}

int
main(void)
{
	return run_all(
		test_sources(every_state_is_counted_as_what_it_is),
		test_sources(every_port_is_counted_once),
		test_sources(the_strongest_holder_of_a_port_counts),
		test_sources(a_listener_with_connections_is_one_holder),
		test_sources(the_last_time_wait_on_a_port_counts),
		test_sources(only_what_is_in_the_way_of_the_address_counts),
		test_sources(reserved_ports_of_the_host_do_not_count),
		test_sources(a_call_that_fails_says_who_holds_the_ports),
		test(a_connection_that_fails_says_who_holds_the_ports),
		test_sources(udp_ports_are_held_by_udp_sockets),
		test(without_proc_netlink_is_enough),
		test(without_either_source_the_holders_are_unknown),
		test_sources(answers_may_be_cut_off),
		test(a_refusal_by_netlink_is_understood),
		test_sources(a_census_that_takes_too_long_is_cut_short),
		test_sources(a_thread_counts_in_its_own_namespace),
		test(options_that_cannot_be_used_are_refused),
		test_sources(a_full_range_is_counted_in_the_time_of_the_call),
		test(a_census_takes_96_kib));
}
