/*
 * census.c
 *		Who holds the ports: sockets are brought into every state on
 *		purpose, and counted, by netlink and by /proc.
 *
 * The kernel confirms each state before the census: is_in_state() reads
 * /proc/net/tcp itself. (Sockets that are only bound are not listed there.
 * Only netlink shows them, from Linux 6.8 on.)
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

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

static const char *const state_names[] = {
	"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
	"TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING",
	"bound"
};

/* Made on purpose. SYN_RECV is only there beside a listener. */
static const State states[] = {
	LISTEN, BOUND, SYN_SENT, ESTABLISHED, CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2,
	CLOSING, LAST_ACK, TIME_WAIT
};

/*
 * The address of a holder and that of its peer: IPv4, IPv6, and IPv4 through
 * an IPv6 socket.
 */
typedef struct Addresses
{
	const char *mine;
	const char *peer;
} Addresses;

static const Addresses all_addresses[] = {
	{"127.0.0.1", "127.0.0.1"},
	{"::1", "::1"},
	{"::ffff:127.0.0.1", "::ffff:127.0.0.1"},
};

#define IPV4 (&all_addresses[0])
#define IPV6 (&all_addresses[1])

/*
 * Calls of the library that this program takes over. They are counted, and
 * one of them fails.
 */
typedef enum Wrapped
{
	SOCKET,
	SEND,
	RECV,
	OPEN,
	READ,
	MMAP,
	CLOCK_GETTIME,
	MALLOC,
	WRAPPED
} Wrapped;

static struct
{
	bool		active;
	int			counts[WRAPPED];
	Wrapped		wrapped;
	int			occurrence;		/* from 1; 0: none fails */
	int			error;
	int			length;			/* recv() and read() give so much, if not -1 */
	bool		refusal;		/* recv() gives a message of type... */
	uint16_t	message_type;	/* that says error */
	int			clock_jump_at;	/* two seconds pass at this call */
}			stage;

/* Where a census comes from in a test. */
typedef struct Source
{
	const char *name;
	IcListenerCensusSource source;
	bool		shows_bound;
} Source;


/* ------------------------------------------------------------
 * Calls taken over
 * ------------------------------------------------------------
 */

static bool
fails(Wrapped wrapped)
{
	if (!stage.active)
		return false;
	stage.counts[wrapped]++;
	if (stage.wrapped != wrapped ||
		stage.counts[wrapped] != stage.occurrence)
		return false;
	errno = stage.error;
	return true;
}

#define WRAP(type, name, wrapped, failure, parameters, arguments) \
	extern type __real_##name parameters; \
	extern type __wrap_##name parameters; \
	type \
	__wrap_##name parameters \
	{ \
		return fails(wrapped) ? (failure) : __real_##name arguments; \
	}

WRAP(int, socket, SOCKET, -1, (int domain, int type, int protocol),
	 (domain, type, protocol))
WRAP(ssize_t, send, SEND, -1,
	 (int fd, const void *data, size_t size, int flags),
	 (fd, data, size, flags))
WRAP(int, open64, OPEN, -1, (const char *path, int flags, mode_t mode),
	 (path, flags, mode))
WRAP(void *, mmap, MMAP, MAP_FAILED,
	 (void *at, size_t size, int access, int flags, int fd, off_t offset),
	 (at, size, access, flags, fd, offset))
WRAP(void *, malloc, MALLOC, NULL, (size_t size), (size))
WRAP(void *, calloc, MALLOC, NULL, (size_t count, size_t size), (count, size))
WRAP(void *, realloc, MALLOC, NULL, (void *memory, size_t size),
	 (memory, size))
WRAP(int, posix_memalign, MALLOC, ENOMEM,
	 (void **memory, size_t alignment, size_t size),
	 (memory, alignment, size))

/* How the kernel refuses a request, and how a dump fails. */
static ssize_t
write_refusal(void *buffer)
{
	struct
	{
		struct nlmsghdr header;
		int			error;
	}			message = {{sizeof(message), stage.message_type, 0, 0, 0},
	-stage.error};

	memcpy(buffer, &message, sizeof(message));
	return sizeof(message);
}

/* These may also return less than there is. */
#define WRAP_INPUT(name, wrapped, parameters, arguments) \
	extern ssize_t __real_##name parameters; \
	extern ssize_t __wrap_##name parameters; \
	ssize_t \
	__wrap_##name parameters \
	{ \
		bool		cut = fails(wrapped); \
		ssize_t		length; \
		\
		if (cut && stage.refusal) \
			return write_refusal(buffer); \
		if (cut && stage.length < 0) \
			return -1; \
		length = __real_##name arguments; \
		return cut && length > stage.length ? stage.length : length; \
	}

WRAP_INPUT(recv, RECV, (int fd, void *buffer, size_t size, int flags),
		   (fd, buffer, size, flags))
WRAP_INPUT(read, READ, (int fd, void *buffer, size_t size),
		   (fd, buffer, size))

extern int	__real_clock_gettime(clockid_t clock, struct timespec *now);
extern int	__wrap_clock_gettime(clockid_t clock, struct timespec *now);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int			result = __real_clock_gettime(clock, now);

	if (clock != CLOCK_THREAD_CPUTIME_ID)
		return result;
	fails(CLOCK_GETTIME);
	if (stage.active && stage.clock_jump_at != 0 &&
		stage.counts[CLOCK_GETTIME] >= stage.clock_jump_at)
		now->tv_sec += 2;
	return result;
}


/* ------------------------------------------------------------
 * Sockets in every state
 * ------------------------------------------------------------
 */

/* Whether the kernel shows a socket in that state on the local port. */
static bool
is_in_state(int port, State state)
{
	static const char *const files[] = {"/proc/net/tcp", "/proc/net/tcp6"};
	bool		found = false;

	for (size_t i = 0; i < lengthof(files); i++)
	{
		FILE	   *file = fopen(files[i], "r");
		char		line[512];
		unsigned	local;
		unsigned	shown;

		require(file != NULL, "%s: %s", files[i], strerror(errno));
		while (fgets(line, sizeof(line), file) != NULL)
		{
			if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &local,
					   &shown) == 2 && local == (unsigned) port &&
				shown == state)
				found = true;
		}
		fclose(file);
	}
	return found;
}

/* Polls: on loopback too, a packet may wait for a softirq. */
static void
wait_for_state(int port, State state)
{
	for (int i = 0; i < 5000; i++)
	{
		if (is_in_state(port, state))
			return;
		poll(NULL, 0, 1);
	}
	require(false, "port %d does not get to %s", port, state_names[state]);
}

/* A socket bound there, non-blocking, with SO_REUSEADDR if wanted. */
static int
bound_socket(const char *address, int port, bool reuse_address)
{
	Neighbour	neighbour = {.address = address,.reuse_address = reuse_address};
	int			fd = open_neighbour(&neighbour, port);

	require(fd >= 0, "%s port %d: %s", address, port, strerror(errno));
	expect(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	return fd;
}

/* One for each family, made at its first use. */
static int
peer_listener(const Addresses *addresses)
{
	static int	listeners[lengthof(all_addresses)];
	int			index = addresses - all_addresses;

	if (listeners[index] == 0)
	{
		listeners[index] = bound_socket(addresses->peer, PEER_PORT + index,
										true);
		expect(listen(listeners[index], 1024) == 0);
	}
	return listeners[index];
}

/* Starts to connect; the three-way handshake ends by itself. */
static void
start_connecting(int fd, const char *address, int port)
{
	struct sockaddr_storage to;
	socklen_t	length = socket_address(address, port, &to);

	require(connect(fd, (struct sockaddr *) &to, length) == 0 ||
			errno == EINPROGRESS, "connect to %s: %s", address,
			strerror(errno));
}

/* Connections to it stay in SYN_SENT: the queue has room for one. */
static void
fill_silent_listener(const Addresses *addresses)
{
	static bool filled[lengthof(all_addresses)];
	int			index = addresses - all_addresses;
	int			port = PEER_PORT + 10 + index;

	if (filled[index])
		return;
	filled[index] = true;
	expect(listen(bound_socket(addresses->peer, port, true), 0) == 0);
	start_connecting(bound_socket(addresses->mine, port + 10, true),
					 addresses->peer, port);
	wait_for_state(port + 10, ESTABLISHED);
}

/* Sends until the peer's window is closed and nothing more is acknowledged. */
static void
fill_window(int fd)
{
	static const char data[65536];
	int			full = 0;

	while (full < 5)
	{
		if (send(fd, data, sizeof(data), MSG_DONTWAIT) >= 0)
			full = 0;
		else
		{
			require(errno == EAGAIN, "send: %s", strerror(errno));
			full++;
			poll(NULL, 0, 2);
		}
	}
}

/*
 * Brings a socket on that port into that state, where it stays until the
 * process ends. Returns its fd, or -1 when the program has closed it.
 */
static int
make(State state, const Addresses *addresses, int port, bool reuse_address)
{
	int			listener;
	int			mine = bound_socket(addresses->mine, port, reuse_address);
	int			peer;

	if (state == BOUND)
		return mine;
	if (state == LISTEN)
	{
		expect(listen(mine, 8) == 0);
		wait_for_state(port, LISTEN);
		return mine;
	}
	if (state == SYN_SENT)
	{
		int			index = addresses - all_addresses;

		fill_silent_listener(addresses);
		start_connecting(mine, addresses->peer, PEER_PORT + 10 + index);
		wait_for_state(port, SYN_SENT);
		return mine;
	}

	listener = peer_listener(addresses);
	start_connecting(mine, addresses->peer, local_port(listener));
	peer = accept_from(listener);
	switch (state)
	{
		case ESTABLISHED:
			break;
		case CLOSE_WAIT:
			close(peer);
			break;
		case FIN_WAIT1:
			fill_window(mine);
			close(mine);
			mine = -1;
			break;
		case FIN_WAIT2:
			expect(shutdown(mine, SHUT_WR) == 0);
			break;
		case CLOSING:
			fill_window(mine);
			close(mine);
			mine = -1;
			wait_for_state(port, FIN_WAIT1);
			expect(shutdown(peer, SHUT_WR) == 0);
			break;
		case LAST_ACK:
			expect(shutdown(peer, SHUT_WR) == 0);
			wait_for_state(port, CLOSE_WAIT);
			fill_window(mine);
			close(mine);
			mine = -1;
			break;
		case TIME_WAIT:
			close(mine);
			mine = -1;
			wait_for_end(peer);
			close(peer);
			break;
		default:
			require(false, "no way to %s", state_names[state]);
	}
	wait_for_state(port, state);
	return mine;
}


/* ------------------------------------------------------------
 * Counting
 * ------------------------------------------------------------
 */

/* Which state is counted as what. */
static void
count_in(State state, IcListenerCensus *expected)
{
	switch (state)
	{
		case LISTEN:
			expected->ports_listening++;
			break;
		case BOUND:
			expected->ports_bound++;
			break;
		case SYN_SENT:
		case ESTABLISHED:
		case CLOSE_WAIT:
			expected->ports_connected++;
			break;
		case FIN_WAIT1:
		case FIN_WAIT2:
		case CLOSING:
		case LAST_ACK:
			expected->ports_closing++;
			break;
		case TIME_WAIT:
			expected->ports_time_wait++;
			break;
		default:
			break;
	}
}

static IcListenerCensus
take_census(const char *address, int port_min, int port_max)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	OpenFds		before = open_fds();
	int			returned;

	options.address = address;
	options.port_min = port_min;
	options.port_max = port_max;
	memset(stage.counts, 0, sizeof(stage.counts));
	errno = 4711;
	stage.active = true;
	returned = ic_listener_census(&options, &census);
	stage.active = false;
	require(returned == 0, "%s (errno %d)", census.message, errno);
	expect_equal(stage.counts[MALLOC], 0);
	expect(open_fds_are(&before, -1));
	expect_equal(census.size, sizeof(census));
	expect_equal(census.error, 0);
	expect_equal(census.complete, 1);
	expect_equal(census.port_min, port_min);
	expect_equal(census.port_max, port_max);
	expect_equal(census.ports, port_max - port_min + 1);
	expect(census.elapsed_ns > 0);
	expect(strlen(census.message) > 0);
	return census;
}

/* The times are those of new TIME_WAITs. */
static void
expect_counts(const IcListenerCensus *census, const IcListenerCensus *expected,
			  const Source *source)
{
	unsigned	bound = source->shows_bound ? expected->ports_bound : 0;

	expect_equal(census->source, source->source);
	expect_equal(census->ports_listening, expected->ports_listening);
	expect_equal(census->ports_bound, bound);
	expect_equal(census->ports_connected, expected->ports_connected);
	expect_equal(census->ports_closing, expected->ports_closing);
	expect_equal(census->ports_time_wait, expected->ports_time_wait);
	expect_equal(census->ports_unheld, census->ports - bound -
				 census->ports_listening - census->ports_connected -
				 census->ports_closing - census->ports_time_wait);
	if (expected->ports_time_wait == 0)
	{
		expect_equal(census->time_wait_next_s, 0);
		expect_equal(census->time_wait_last_s, 0);
	}
	else
	{
		require(census->time_wait_next_s >= 30 &&
				census->time_wait_last_s <= 60 &&
				census->time_wait_next_s <= census->time_wait_last_s,
				"TIME_WAIT ends in %u to %u s", census->time_wait_next_s,
				census->time_wait_last_s);
	}
}

static bool
kernel_shows_bound(void)
{
	struct utsname kernel;
	int			major = 0;
	int			minor = 0;

	expect(uname(&kernel) == 0);
	expect(sscanf(kernel.release, "%d.%d", &major, &minor) == 2);
	return major > 6 || (major == 6 && minor >= 8);
}

static Source
by_netlink(void)
{
	Source		source = {
		"netlink", IC_LISTENER_CENSUS_SOURCE_NETLINK, kernel_shows_bound()
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	/* One port is enough to see which source answers. */
	options.port_min = options.port_max = PORT_MIN;
	expect(ic_listener_census(&options, &census) == 0);
	if (census.source != IC_LISTENER_CENSUS_SOURCE_NETLINK)
		skip_child("sock_diag: a kernel with CONFIG_INET_TCP_DIAG");
	return source;
}

static Source
by_proc(void)
{
	Source		source = {"/proc", IC_LISTENER_CENSUS_SOURCE_PROC, false};

	refuse_call(SYS_socket, 0, AF_NETLINK, EPERM);
	return source;
}

/*
 * One test body for each source, in its own namespace: what one did to the
 * ports would affect the other.
 */
#define TEST_SOURCES_IN_NETNS(promise) \
	static void promise##_body(const Source *source); \
	static void \
	promise##_from(void *source_of) \
	{ \
		Source		source = ((Source (*) (void)) source_of) (); \
		\
		now_doing("%s", source.name); \
		promise##_body(&source); \
	} \
	static void \
	promise(void **state) \
	{ \
		(void) state; \
		assert_passes_in_netns(promise##_from, by_netlink); \
		assert_passes_in_netns(promise##_from, by_proc); \
	} \
	static void \
	promise##_body(const Source *source)


/* ------------------------------------------------------------
 * Tests
 * ------------------------------------------------------------
 */

/* Each state alone, on one port, in each family. */
TEST_SOURCES_IN_NETNS(every_state_is_counted_as_what_it_is)
{
	int			port = PORT_MIN;

	for (size_t a = 0; a < lengthof(all_addresses); a++)
	{
		for (size_t i = 0; i < lengthof(states); i++, port++)
		{
			IcListenerCensus expected = {.ports_listening = 0};
			IcListenerCensus census;

			now_doing("%s, %s on %s", source->name, state_names[states[i]],
					  all_addresses[a].mine);
			make(states[i], &all_addresses[a], port, false);
			count_in(states[i], &expected);
			census = take_census(NULL, port, port);
			expect_counts(&census, &expected, source);
		}
	}
}

/* All at once, each kind in another number. */
TEST_SOURCES_IN_NETNS(every_port_is_counted_once)
{
	static const int numbers[] = {3, 4, 2, 1, 3, 1, 2, 1, 1, 8};
	IcListenerCensus expected = {.ports_listening = 0};
	IcListenerCensus census;
	int			port = PORT_MIN;

	for (size_t i = 0; i < lengthof(states); i++)
	{
		for (int count = 0; count < numbers[i]; count++, port++)
		{
			make(states[i], &all_addresses[count % 3], port, false);
			count_in(states[i], &expected);
		}
	}
	census = take_census(NULL, PORT_MIN, PORT_MAX);
	expect_equal(expected.ports_listening, 3);
	expect_equal(expected.ports_bound, 4);
	expect_equal(expected.ports_connected, 6);
	expect_equal(expected.ports_closing, 5);
	expect_equal(expected.ports_time_wait, 8);
	expect_counts(&census, &expected, source);

	/* A part of the range: the ports beside it are not counted. */
	census = take_census(NULL, PORT_MIN, PORT_MIN + 1);
	expect_equal(census.ports_listening, 2);
	expect_equal(census.ports_unheld, 0);
}

/* IPv4 and IPv6 on one port, in the same state and in different ones. */
TEST_SOURCES_IN_NETNS(both_families_on_a_port_are_one_holder)
{
	/* From the strongest to the weakest. */
	static const State kinds_of_holders[] = {
		LISTEN, BOUND, ESTABLISHED, FIN_WAIT2, TIME_WAIT
	};
	int			port = PORT_MIN;

	for (size_t strong = 0; strong < lengthof(kinds_of_holders); strong++)
	{
		for (size_t weak = strong; weak < lengthof(kinds_of_holders); weak++)
		{
			State		strongest = kinds_of_holders[strong];

			for (int swapped = 0; swapped <= 1; swapped++, port++)
			{
				IcListenerCensus expected = {.ports_listening = 0};
				IcListenerCensus census;

				now_doing("%s, %s and %s on port %d", source->name,
						  state_names[strongest],
						  state_names[kinds_of_holders[weak]], port);
				make(strongest, swapped ? IPV6 : IPV4, port, false);
				make(kinds_of_holders[weak], swapped ? IPV4 : IPV6, port,
					 false);
				if (strongest == BOUND && !source->shows_bound)
					strongest = kinds_of_holders[weak];
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
	IcListenerCensus expected = {.ports_listening = 1};
	IcListenerCensus census;
	int			listener = make(LISTEN, IPV4, PORT_MIN, false);

	for (int i = 0; i < 20; i++)
	{
		int			client = bound_socket("127.0.0.1", 30000 + i, true);
		int			server;

		start_connecting(client, "127.0.0.1", PORT_MIN);
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
	IcListenerCensus later;

	make(TIME_WAIT, IPV4, PORT_MAX, true);
	census = take_census(NULL, PORT_MAX, PORT_MAX);
	expect_equal(census.source, source->source);
	expect_equal(census.time_wait_next_s, 60);
	poll(NULL, 0, 2100);

	/* Its 60 seconds begin later than those of the first. */
	make(TIME_WAIT, IPV4, PORT_MIN, true);
	later = take_census(NULL, PORT_MIN, PORT_MAX);
	expect_equal(later.ports_time_wait, 2);
	require(later.time_wait_next_s >= 50 && later.time_wait_next_s <= 58,
			"the next is free in %u s", later.time_wait_next_s);
	expect_equal(later.time_wait_last_s, 60);
	expect_in(later.message, "2 in TIME_WAIT (the next is free in ");

	/* Another one, in the other family, on the first port. */
	make(TIME_WAIT, IPV6, PORT_MAX, true);
	later = take_census(NULL, PORT_MAX, PORT_MAX);
	expect_equal(later.ports_time_wait, 1);
	expect_equal(later.time_wait_next_s, 60);
	expect_equal(later.time_wait_last_s, 60);
}

/* Only sockets count that are in the way of the address. */
TEST_SOURCES_IN_NETNS(only_what_is_in_the_way_of_the_address_counts)
{
	static const Neighbour neighbours[] = {
		{.address = "127.0.0.1",.listens = true},
		{.address = "127.0.0.2",.listens = true},
		{.address = "0.0.0.0",.listens = true},
		{.address = "::1",.only_v6 = true,.listens = true},
		{.address = "::",.listens = true},
		{.address = "::",.only_v6 = true,.listens = true},
	};
	static const struct
	{
		const char *address;
		const char *in_the_way; /* x for each of the neighbours */
	}			cases[] = {
		{NULL, "xxxxxx"},
		{"::", "xxxxxx"},
		{"0.0.0.0", "xxx.x."},
		{"127.0.0.1", "x.x.x."},
		{"::ffff:127.0.0.2", ".xx.x."},
		{"::1", "...xxx"},
	};

	for (size_t i = 0; i < lengthof(neighbours); i++)
		expect(open_neighbour(&neighbours[i], PORT_MIN + i) >= 0);
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		for (size_t n = 0; n < lengthof(neighbours); n++)
		{
			bool		counts = cases[i].in_the_way[n] == 'x';
			IcListenerCensus census;

			/* What /proc does not show counts as in the way. */
			if (neighbours[n].only_v6 && !source->shows_bound &&
				strcmp(neighbours[n].address, "::") == 0)
				counts = true;
			now_doing("%s, address %s, neighbour %zu", source->name,
					  cases[i].address, n);
			census = take_census(cases[i].address, PORT_MIN + n, PORT_MIN + n);
			expect_equal(census.ports_listening, counts);

			/* The library finds the same. */
			if (source->shows_bound)
			{
				IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
				Call		call;

				options.address = cases[i].address;
				options.port_min = options.port_max = PORT_MIN + n;
				call = open_listener(&options);
				expect_equal(call.returned, counts ? -1 : 0);
				if (call.returned == 0)
					close(call.fd);
			}
		}
	}
}

/* The host's range without its reserved ports, unless the options name one. */
TEST_SOURCES_IN_NETNS(reserved_ports_of_the_host_do_not_count)
{
	IcListenerCensus census;
	IcListenerCensus named;

	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40001,40010-40019");
	make(LISTEN, IPV4, PORT_MIN, false);
	make(LISTEN, IPV4, PORT_MIN + 1, false);
	census = (IcListenerCensus) IC_LISTENER_CENSUS_INIT;
	expect_equal(ic_listener_census(NULL, &census), 0);
	expect_equal(census.source, source->source);
	expect_equal(census.port_min, PORT_MIN);
	expect_equal(census.port_max, PORT_MAX);
	expect_equal(census.ports, PORTS - 11);
	expect_equal(census.ports_listening, 1);
	expect_equal(census.ports_unheld, PORTS - 12);
	expect(strcmp(census.message, "53 ports in 40000-40063: 1 listener, "
				  "52 without a holder") == 0);
	named = take_census(NULL, PORT_MIN, PORT_MAX);
	expect_equal(named.ports_listening, 2);
}

/*
 * The report of a call that found no port. The census does not change its
 * errno.
 */
TEST_SOURCES_IN_NETNS(a_call_that_fails_says_who_holds_the_ports)
{
	Call		call;

	set_port_range(PORT_MIN, PORT_MIN + 9);
	for (int i = 0; i < 5; i++)
		make(TIME_WAIT, &all_addresses[i % 3], PORT_MIN + i, false);
	for (int i = 5; i < 8; i++)
		make(ESTABLISHED, IPV4, PORT_MIN + i, false);
	make(LISTEN, IPV6, PORT_MIN + 8, false);
	make(FIN_WAIT2, IPV6, PORT_MIN + 9, false);
	call = open_listener(NULL);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.ports_in_use, 10);
	expect_equal(call.report.census_source, source->source);
	expect_equal(call.report.census_complete, 1);
	expect_equal(call.report.ports_time_wait, 5);
	expect_equal(call.report.ports_connected, 3);
	expect_equal(call.report.ports_listening, 1);
	expect_equal(call.report.ports_closing, 1);
	expect_equal(call.report.ports_bound, 0);
	expect_equal(call.report.ports_unknown, 0);
	expect(call.report.time_wait_next_s >= 30);
	expect(call.report.time_wait_last_s >= call.report.time_wait_next_s);
	expect_in(call.report.message, "no port to listen on in 40000-40009: "
			  "10 tried, 10 in use: 5 in TIME_WAIT without SO_REUSEADDR (");
	expect_in(call.report.message, "), 3 connections, 1 closing, 1 listener");
}

/*
 * The same for connections. A port that has a connection to the destination
 * is held, and not in use: its holder shares it.
 */
TEST_SOURCES_IN_NETNS(a_connection_that_fails_says_who_holds_the_ports)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	struct sockaddr_storage to;
	socklen_t	length;
	int			peer = peer_listener(IPV4);

	set_port_range(PORT_MIN, PORT_MIN + 4);
	length = socket_address("127.0.0.1", local_port(peer), &to);
	make(LISTEN, IPV4, PORT_MIN, false);
	make(LISTEN, IPV4, PORT_MIN + 1, false);
	make(TIME_WAIT, IPV4, PORT_MIN + 2, false);
	for (int i = 0; i <= 2; i++)
	{
		int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int			returned;

		returned = ic_listener_connect(fd, (struct sockaddr *) &to, length,
									   &report);
		if (i < 2)
			require(returned == 0, "%s", report.message);
		else
		{
			expect_equal(returned, -1);
			expect_equal(errno, EADDRNOTAVAIL);
		}
	}
	expect_equal(report.census_source, source->source);
	expect_equal(report.ports_in_use, 3);
	expect_equal(report.ports_listening, 2);
	expect_equal(report.ports_connected, 2);
	expect_equal(report.ports_time_wait, 1);
	expect_equal(report.ports_unknown, 0);
	expect_in(report.message, "no port to connect from in 40000-40004: "
			  "5 tried, 3 in use, 2 connected to the same destination "
			  "already; held: 2 connections, 2 listeners, 1 in TIME_WAIT "
			  "(free in ");
}

/*
 * A socket that is only bound and does not share is unknown where the source
 * does not show it.
 */
TEST_SOURCES_IN_NETNS(who_is_not_seen_is_unknown)
{
	Call		call;

	set_port_range(PORT_MIN, PORT_MIN + 3);
	for (int i = 0; i < 3; i++)
		make(BOUND, IPV4, PORT_MIN + i, false);
	make(LISTEN, IPV4, PORT_MIN + 3, false);
	call = open_listener(NULL);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.ports_listening, 1);
	expect_equal(call.report.ports_bound, source->shows_bound ? 3 : 0);
	expect_equal(call.report.ports_unknown, source->shows_bound ? 0 : 3);
	expect_in(call.report.message, source->shows_bound ?
			  "4 in use: 3 bound, 1 listener" :
			  "4 in use: 3 unknown, 1 listener");
}

/* The UDP sockets, not the TCP ones. */
TEST_SOURCES_IN_NETNS(udp_ports_are_held_by_udp_sockets)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Call		held;
	Call		call;

	options.port_min = options.port_max = PORT_MIN;
	make(LISTEN, IPV4, PORT_MIN, false);
	held = open_socket(&udp, &options);
	expect_equal(held.returned, 0);
	call = open_socket(&udp, &options);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.census_source, source->source);
	expect_equal(call.report.ports_listening, 0);
	expect_equal(call.report.ports_bound, 1);
	expect_in(call.report.message, "1 in use: 1 bound");

	connect_to(held.fd, "127.0.0.1", PORT_MIN);
	call = open_socket(&udp, &options);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.ports_connected, 1);
}

/* A call that finds a port, or has no report to fill, takes no census. */
TEST_IN_NETNS(no_other_call_takes_a_census)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	int			port;
	int			fd;

	options.port_min = options.port_max = PORT_MIN;
	stage.active = true;
	expect_equal(ic_listener_open_tcp(&options, &port, &fd, &report), 0);
	expect_equal(stage.counts[SOCKET], 1);
	expect_equal(report.census_source, IC_LISTENER_CENSUS_SOURCE_NONE);

	memset(stage.counts, 0, sizeof(stage.counts));
	expect_equal(ic_listener_open_tcp(&options, &port, &fd, NULL), -1);
	expect_equal(stage.counts[SOCKET], 1);
	expect_equal(stage.counts[MMAP], 0);

	memset(stage.counts, 0, sizeof(stage.counts));
	options.address = "192.0.2.1";
	expect_equal(ic_listener_open_tcp(&options, &port, &fd, &report), -1);
	expect_equal(stage.counts[SOCKET], 1);
	expect_equal(stage.counts[MMAP], 0);
	expect_equal(report.census_source, IC_LISTENER_CENSUS_SOURCE_NONE);

	memset(stage.counts, 0, sizeof(stage.counts));
	options.address = NULL;
	expect_equal(ic_listener_open_tcp(&options, &port, &fd, &report), -1);
	expect_equal(stage.counts[SOCKET], 2);
	expect_equal(stage.counts[MMAP], 1);
	expect_equal(stage.counts[MALLOC], 0);
	stage.active = false;
}

/* The census as it is before a call that is going to fail. */
static IcListenerCensus
spoilt_census(void)
{
	IcListenerCensus census;

	memset(&census, 0xee, sizeof(census));
	census.size = sizeof(census);
	return census;
}

static void
expect_no_census(const IcListenerCensus *census, int error)
{
	IcListenerCensus nothing = {.size = sizeof(nothing),.error = error};

	expect(memcmp(census, &nothing, offsetof(IcListenerCensus, message)) == 0);
	expect(strlen(census->message) > 0);
}

/*
 * Netlink needs no /proc. The range must be named, because nothing else tells
 * it.
 */
TEST_IN_NETNS(without_proc_netlink_is_enough)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = spoilt_census();

	by_netlink();
	make(LISTEN, IPV4, PORT_MIN, false);
	make(TIME_WAIT, IPV4, PORT_MIN + 1, false);
	enter_mount_namespace();
	mount_empty_over("/proc");
	expect_equal(ic_listener_census(NULL, &census), -1);
	expect_equal(errno, ENOENT);
	expect_no_census(&census, ENOENT);
	expect_in(census.message, "range");

	options.port_min = PORT_MIN;
	options.port_max = PORT_MAX;
	expect_equal(ic_listener_census(&options, &census), 0);
	expect_equal(census.source, IC_LISTENER_CENSUS_SOURCE_NETLINK);
	expect_equal(census.ports_listening, 1);
	expect_equal(census.ports_time_wait, 1);
}

/* The holders are unknown, and the message is the one without a census. */
TEST_IN_NETNS(without_either_source_the_message_is_short)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = spoilt_census();
	Call		call;

	options.port_min = options.port_max = PORT_MIN;
	make(LISTEN, IPV4, PORT_MIN, false);
	refuse_call(SYS_socket, 0, AF_NETLINK, EACCES);
	enter_mount_namespace();
	mount_empty_over("/proc");
	expect_equal(ic_listener_census(&options, &census), -1);
	expect_equal(errno, ENOENT);
	expect_no_census(&census, ENOENT);
	expect_in(census.message, "/proc/net/tcp");

	call = open_listener(&options);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.census_source, IC_LISTENER_CENSUS_SOURCE_NONE);
	expect_equal(call.report.census_complete, 0);
	expect_equal(call.report.ports_listening, 0);
	expect_equal(call.report.ports_unknown, 0);
	expect(strcmp(call.report.message, "no port to listen on in 40000-40000: "
				  "1 tried, 1 in use") == 0);
}

/* Each call into the kernel fails at each of its occurrences. */
TEST_SOURCES_IN_NETNS(every_call_may_fail)
{
	static const int errors[] = {EMFILE, ENOMEM, EACCES, EINTR};
	IcListenerCensus expected = {
		.ports_listening = 2,.ports_time_wait = 1,.ports_bound = 2
	};
	int			counts[WRAPPED];
	bool		by_netlink = source->source ==
		IC_LISTENER_CENSUS_SOURCE_NETLINK;
	Source		proc = {"/proc", IC_LISTENER_CENSUS_SOURCE_PROC, false};
	OpenFds		before;
	IcListenerCensus census;

	make(LISTEN, IPV4, PORT_MIN + 1, false);
	make(LISTEN, IPV6, PORT_MIN + 2, false);
	make(TIME_WAIT, IPV4, PORT_MIN + 3, false);
	/* What netlink showed before it failed is forgotten. */
	make(BOUND, IPV4, PORT_MIN, false);
	make(BOUND, IPV4, PORT_MAX, false);
	census = take_census(NULL, PORT_MIN, PORT_MAX);
	expect_counts(&census, &expected, source);
	memcpy(counts, stage.counts, sizeof(counts));
	expect_equal(counts[SOCKET], 1);
	expect_equal(counts[SEND] > 0, by_netlink);
	expect_equal(counts[RECV] > 0, by_netlink);
	expect_equal(counts[OPEN], by_netlink ? 0 : 2);
	expect_equal(counts[READ] > 0, !by_netlink);
	expect_equal(counts[MMAP], 1);

	before = open_fds();
	for (Wrapped wrapped = 0; wrapped <= MMAP; wrapped++)
	{
		for (int i = 0; i < counts[wrapped] * (int) lengthof(errors); i++)
		{
			IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
			int			error = errors[i % lengthof(errors)];
			bool		survives = (error == EINTR && wrapped != MMAP) ||
				(wrapped <= RECV && by_netlink);
			int			returned;

			/* Denied anyway. */
			if (wrapped == SOCKET && !by_netlink)
				continue;
			options.port_min = PORT_MIN;
			options.port_max = PORT_MAX;
			now_doing("%s, call %d, #%d, error %d", source->name, wrapped,
					  i / (int) lengthof(errors) + 1, error);
			memset(stage.counts, 0, sizeof(stage.counts));
			stage.wrapped = wrapped;
			stage.occurrence = i / lengthof(errors) + 1;
			stage.error = error;
			stage.length = -1;
			census = spoilt_census();
			stage.active = true;
			returned = ic_listener_census(&options, &census);
			stage.active = false;
			expect_equal(returned, survives ? 0 : -1);
			expect(open_fds_are(&before, -1));
			if (survives)
				expect_counts(&census, &expected, &proc);
			else
			{
				expect_equal(errno, error);
				expect_no_census(&census, error);
			}
		}
	}

	/* Answers that are cut off, at every length. */
	for (int length = 0; length < 200; length++)
	{
		now_doing("%s, %d bytes", source->name, length);
		stage.wrapped = by_netlink ? RECV : READ;
		stage.occurrence = 1;
		stage.length = length;
		if (by_netlink)
		{
			census = take_census(NULL, PORT_MIN, PORT_MAX);
			/* Only a cut between two messages goes unnoticed. */
			expect(census.ports_listening + census.ports_time_wait >= 2);
		}
		else if (length > 0)
		{
			/* Only the rest of the line is lost. */
			census = take_census(NULL, PORT_MIN, PORT_MAX);
			expect(census.ports_listening <= 2);
			expect(census.ports_listening + census.ports_time_wait >= 1);
		}
	}
}

/* A kernel without sock_diag, or whose dump breaks off, says so in a message. */
TEST_IN_NETNS(a_refusal_by_netlink_is_understood)
{
	static const uint16_t types[] = {NLMSG_ERROR, NLMSG_DONE};
	Source		proc = {"/proc", IC_LISTENER_CENSUS_SOURCE_PROC, false};
	int			answers;

	by_netlink();
	make(LISTEN, IPV4, PORT_MIN, false);
	make(BOUND, IPV4, PORT_MIN + 1, false);
	take_census(NULL, PORT_MIN, PORT_MAX);
	answers = stage.counts[RECV];
	expect(answers >= 3);
	for (size_t i = 0; i < lengthof(types); i++)
	{
		for (int at = 1; at <= answers; at++)
		{
			IcListenerCensus expected = {.ports_listening = 1};
			IcListenerCensus census;

			now_doing("message of type %d, recv #%d", types[i], at);
			stage.wrapped = RECV;
			stage.occurrence = at;
			stage.error = ENOENT;
			stage.refusal = true;
			stage.message_type = types[i];
			census = take_census(NULL, PORT_MIN, PORT_MAX);
			expect_equal(stage.counts[RECV], at);
			expect_counts(&census, &expected, &proc);
		}
	}
}

/* A census takes half a second of CPU time at most. */
TEST_SOURCES_IN_NETNS(a_census_that_takes_too_long_is_cut_short)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	int			looks;

	make(LISTEN, IPV4, PORT_MIN, false);
	make(LISTEN, IPV6, PORT_MIN + 1, false);
	take_census(NULL, PORT_MIN, PORT_MAX);
	looks = stage.counts[CLOCK_GETTIME];
	expect(looks >= 3);
	options.port_min = PORT_MIN;
	options.port_max = PORT_MAX;
	for (int at = 2; at <= looks; at++)
	{
		IcListenerCensus census = spoilt_census();
		int			returned;

		now_doing("%s, the clock jumps at look %d of %d", source->name, at,
				  looks);
		memset(stage.counts, 0, sizeof(stage.counts));
		stage.clock_jump_at = at;
		stage.active = true;
		returned = ic_listener_census(&options, &census);
		stage.active = false;
		expect_equal(returned, 0);
		expect_equal(census.source, source->source);
		expect_equal(census.complete, 0);
		expect(stage.counts[CLOCK_GETTIME] <= at + 1);
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
	IcListenerCensus here;
	pthread_t	thread;
	void	   *failed;

	make(LISTEN, IPV4, 50000, false);
	here = take_census(NULL, 50000, 50000);
	expect_equal(here.ports_listening, 1);
	expect(pthread_create(&thread, NULL, count_elsewhere, &census) == 0);
	expect(pthread_join(thread, &failed) == 0);
	require(failed == NULL, "%s failed", (char *) failed);
	expect_equal(census.source, source->source);
	expect_equal(census.ports_listening, 0);
}

/* As the kernel's copy_struct_from_user() takes sizes. */
TEST(the_size_says_how_much_is_filled)
{
	static const size_t refused[] = {
		0, 1, sizeof(size_t), sizeof(IcListenerCensus) - 1, 4097, SIZE_MAX
	};
	struct
	{
		IcListenerCensus census;
		char		later[64];
		char		beyond[64];
	}			given;

	for (size_t i = 0; i < lengthof(refused); i++)
	{
		memset(&given, 0xee, sizeof(given));
		given.census.size = refused[i];
		expect_equal(ic_listener_census(NULL, &given.census), -1);
		expect_equal(errno, EINVAL);
		for (size_t at = sizeof(size_t); at < sizeof(given); at++)
			expect_equal(((unsigned char *) &given)[at], 0xee);
	}
	for (size_t more = 0; more <= sizeof(given.later); more++)
	{
		memset(&given, 0xee, sizeof(given));
		given.census.size = sizeof(IcListenerCensus) + more;
		expect_equal(ic_listener_census(NULL, &given.census), 0);
		expect_equal(given.census.size, sizeof(IcListenerCensus) + more);
		expect(given.census.ports > 0);
		for (size_t at = 0; at < sizeof(given.later); at++)
			expect_equal((unsigned char) given.later[at],
						 at < more ? 0 : 0xee);
		for (size_t at = 0; at < sizeof(given.beyond); at++)
			expect_equal((unsigned char) given.beyond[at], 0xee);
	}
	expect_equal(ic_listener_census(NULL, NULL), -1);
	expect_equal(errno, EINVAL);
}

TEST(options_that_cannot_be_used_are_refused)
{
	static const struct
	{
		IcListenerOptions options;
		const char *message;
	}			cases[] = {
		{{sizeof(IcListenerOptions) - 1, NULL, 0, 0, 0, 0}, "size"},
		{{sizeof(IcListenerOptions), "localhost", 0, 0, 0, 0}, "numeric"},
		{{sizeof(IcListenerOptions), "224.0.0.1", 0, 0, 0, 0}, "unicast"},
		{{sizeof(IcListenerOptions), NULL, -1, 0, 0, 0}, "backlog"},
		{{sizeof(IcListenerOptions), NULL, 0, 2, 1, 0}, "port"},
		{{sizeof(IcListenerOptions), NULL, 0, 1, 65536, 0}, "port"},
		{{sizeof(IcListenerOptions), NULL, 0, 0, 0, -1}, "listen_retries"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		IcListenerCensus census = spoilt_census();

		now_doing("case %zu", i);
		expect_equal(ic_listener_census(&cases[i].options, &census), -1);
		expect_equal(errno, EINVAL);
		expect_no_census(&census, EINVAL);
		expect_in(census.message, cases[i].message);
	}
}


/* ------------------------------------------------------------
 * A range that is full
 * ------------------------------------------------------------
 */

#define FULL_MIN 32768
#define FULL_MAX 60999
#define FULL_PORTS (FULL_MAX - FULL_MIN + 1)
#define FULL_ROUNDS 5

/* CPU time, which other processes do not change. */
static uint64_t
nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

/* One process may not have that many fds: several hold the ports. */
static void
hold_full_range(const Neighbour *neighbour)
{
	struct rlimit limit;
	int			share;

	expect(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	expect(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	share = limit.rlim_max > FULL_PORTS + 64 ? FULL_PORTS :
		(int) limit.rlim_max - 64;
	for (int first = FULL_MIN; first <= FULL_MAX; first += share)
	{
		int			last = first + share - 1;
		Ports		ports = ports_from_to(first,
										  last < FULL_MAX ? last : FULL_MAX);

		hold_ports(neighbour, &ports);
	}
}

/*
 * The cost of a census, as a share of the failed call before it. The best of
 * some rounds each, by turns.
 */
TEST_SOURCES_IN_NETNS(a_full_range_is_counted_in_the_time_of_the_call)
{
	Neighbour	neighbour = {.address = "::",.listens = true};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	uint64_t	best_call = UINT64_MAX;
	uint64_t	best_census = UINT64_MAX;
	IcListenerCensus census;

	hold_full_range(&neighbour);
	options.port_min = FULL_MIN;
	options.port_max = FULL_MAX;
	for (int round = 0; round < FULL_ROUNDS; round++)
	{
		uint64_t	start = nanoseconds();
		uint64_t	took;
		int			port;
		int			fd;

		expect_equal(ic_listener_open_tcp(&options, &port, &fd, NULL), -1);
		took = nanoseconds() - start;
		if (took < best_call)
			best_call = took;
		start = nanoseconds();
		census = take_census(NULL, FULL_MIN, FULL_MAX);
		took = nanoseconds() - start;
		if (took < best_census)
			best_census = took;
		expect_equal(census.source, source->source);
		expect_equal(census.ports_listening, FULL_PORTS);
	}
	print_message("# %d listeners, %s: the call %.1f ms of CPU time, "
				  "the census %.1f: %.2f\n", FULL_PORTS, source->name, best_call / 1e6,
				  best_census / 1e6, (double) best_census / best_call);

	/* Netlink stays well below; /proc costs the kernel twice as much. */
	expect(best_census <= best_call * (source->source ==
									   IC_LISTENER_CENSUS_SOURCE_NETLINK ?
									   2 : 4));
}

/* One byte for each port number, 32 KiB to read into, and no malloc(). */
TEST_IN_NETNS(a_census_takes_96_kib)
{
	long		pages[1];
	struct rlimit limit;

	for (int kib = 64; kib <= 128; kib += 32)
	{
		IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
		IcListenerCensus census = spoilt_census();
		int			returned;

		options.port_min = PORT_MIN;
		options.port_max = PORT_MAX;
		expect(proc_numbers("/proc/self/statm", 1, pages));
		expect(getrlimit(RLIMIT_AS, &limit) == 0);
		limit.rlim_cur = pages[0] * sysconf(_SC_PAGESIZE) + kib * 1024;
		expect(setrlimit(RLIMIT_AS, &limit) == 0);
		returned = ic_listener_census(&options, &census);
		limit.rlim_cur = limit.rlim_max;
		expect(setrlimit(RLIMIT_AS, &limit) == 0);
		now_doing("%d KiB", kib);
		expect_equal(returned, kib < 96 ? -1 : 0);
		if (kib < 96)
			expect_no_census(&census, ENOMEM);
	}
}

int
main(void)
{
	return run_all(
		test(every_state_is_counted_as_what_it_is),
		test(every_port_is_counted_once),
		test(both_families_on_a_port_are_one_holder),
		test(a_listener_with_connections_is_one_holder),
		test(the_last_time_wait_on_a_port_counts),
		test(only_what_is_in_the_way_of_the_address_counts),
		test(reserved_ports_of_the_host_do_not_count),
		test(a_call_that_fails_says_who_holds_the_ports),
		test(a_connection_that_fails_says_who_holds_the_ports),
		test(who_is_not_seen_is_unknown),
		test(udp_ports_are_held_by_udp_sockets),
		test(no_other_call_takes_a_census),
		test(without_proc_netlink_is_enough),
		test(without_either_source_the_message_is_short),
		test(every_call_may_fail),
		test(a_refusal_by_netlink_is_understood),
		test(a_census_that_takes_too_long_is_cut_short),
		test(a_thread_counts_in_its_own_namespace),
		test(the_size_says_how_much_is_filled),
		test(options_that_cannot_be_used_are_refused),
		test(a_full_range_is_counted_in_the_time_of_the_call),
		test(a_census_takes_96_kib));
}
