/*
 * calls.c
 *		Calls the interconnect and the backend's libpq of one tree, as they were
 *		compiled, and prints what came of it, for the test to compare.
 *
 * usage: calls WORD...
 * The words, which are at the end, are done one after the other; +WORD when
 * somebody waits, and @WORD while a LOG entry is written.  MIN-MAX enters a
 * network namespace with that port range (exit status 77: it cannot, and why);
 * address=ADDRESS is the one that the interconnect listens on.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "netns.h"
#include "sockets.h"
#include "support.h"

#include "backend.h"
#include "cdb/cdbvars.h"
#include "cdb/ml_ipc.h"
#include "libpq-int.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"

/* A test may have to wait for a processor, in seconds. */
#define LOAD 10.0

/* Below the range: the dispatcher's segment, and another one. */
#define SEGMENT 30000
#define OTHER_SEGMENT 30001

/* The ephemeral port range, and where ports are held from. */
static int	port_min;
static int	port_max;
static int	first_held;

static void
enter_range(void)
{
	const char *missing = enter_netns();
	Neighbour	segment = {.address = "127.0.0.1", .reuse_address = true, .listens = true};

	if (missing != NULL)
	{
		puts(missing);
		exit(77);
	}
	first_held = port_min;
	set_port_range(port_min, port_max);
	require(open_neighbour(&segment, SEGMENT) >= 0, "segment: %s", strerror(errno));
	require(open_neighbour(&segment, OTHER_SEGMENT) >= 0, "segment: %s", strerror(errno));
}

static const Neighbour listener = {.address = "::", .listens = true};
static const Neighbour datagrams = {.address = "::", .datagrams = true};

static const Neighbour *holder = &listener;
static int	one_holder = -1;

static void
hold_by_udp(void)
{
	holder = &datagrams;
}

static void
hold_one(void)
{
	one_holder = open_neighbour(holder, port_min);
	require(one_holder >= 0, "port %d: %s", port_min, strerror(errno));
}

/* But for the lowest, which hold_one() holds. */
static void
spare_one(void)
{
	first_held = port_min + 1;
}

/* There is no port for anybody. */
static void
hold_all(void)
{
	Ports		ports = ports_from_to(first_held, port_max);

	hold_ports(holder, &ports);
}

/* The listeners of these ports are gone, but their TIME_WAITs keep them. */
static void
leave_time_waits(void)
{
	for (int port = first_held; port <= port_max; port++)
	{
		int			server = open_neighbour(&listener, port);

		require(server >= 0, "port %d: %s", port, strerror(errno));
		leave_time_wait(server, "127.0.0.1");
		close(server);
	}
}

/* All ports of the range have a connection, which shares its port. */
static void
connect_from_all_ports(void)
{
	Neighbour	client = {.address = "127.0.0.1", .reuse_address = true};

	for (int port = port_min; port <= port_max; port++)
		connect_to(open_neighbour(&client, port), "127.0.0.1", OTHER_SEGMENT);
}

/* That of hold_one(). */
static void
end_one(void)
{
	if (one_holder >= 0)
		close(one_holder);
	one_holder = -1;
}

/* Whoever asks again finds one. */
static void
add_a_port(void)
{
	set_port_range(port_min, port_max + 1);
}

static void
cancel_query(void)
{
	InterruptPending = QueryCancelPending = true;
}

static void
terminate_backend(void)
{
	InterruptPending = ProcDiePending = true;
}

/* Somebody else sends a notification. */
static void
notify(void)
{
	InterruptPending = true;
}

/* A background worker, the FTS prober, walreceiver. */
static void
serve_nobody(void)
{
	MyProcPort = NULL;
}

/* A backend that starts: no statement has begun, and it may recover others'. */
static void
start_backend(void)
{
	normal_processing = false;
	statement_start = 0;
	ClientAuthInProgress = true;
}

static void
end_authentication(void)
{
	ClientAuthInProgress = false;
}

/* setjmp() spares what is static. */
static int	fd;
static ListenerPort listener_port;

static void
open_listener(void)
{
	fd = 77;
	listener_port = 77;
	if (setjmp(exception_stack) != 0)
		printf("fd %d, port %d\n", fd, (int) listener_port);
	else
	{
		InitMotionTCP(&fd, &listener_port);
		printf("listener, SO_REUSEADDR: %d\n", socket_option(fd, SOL_SOCKET, SO_REUSEADDR));
	}
}

static void
open_udp(void)
{
	int			family;

	if (setjmp(exception_stack) != 0)
		return;
	InitMotionUDPIFC(&fd, &listener_port, &family);
	printf("family %d, SO_REUSEADDR: %d\n", family, socket_option(fd, SOL_SOCKET, SO_REUSEADDR));
}

/* What is not the library's to change. */
static void
describe(void)
{
	struct tcp_info info;
	socklen_t	size = sizeof(info);

	printf("bound to %s, the port it says: %s\n", local_address(fd), local_port(fd) == listener_port ? "yes" : "no");
	printf("non-blocking: %d\n", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	if (socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 &&
		getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
		printf("listens with backlog %u\n", info.tcpi_sacked);
}

static void
print_connection(const char *who, int sock)
{
	struct pollfd writable = {.fd = sock, .events = POLLOUT};
	int			error;

	poll(&writable, 1, 10000);
	error = socket_option(sock, SOL_SOCKET, SO_ERROR);
	printf("%s: %s, port of the range: %s, SO_REUSEADDR: %d\n", who, error ? strerror(error) : "connected",
		   local_port(sock) >= port_min && local_port(sock) <= port_max ? "yes" : "no",
		   socket_option(sock, SOL_SOCKET, SO_REUSEADDR));
}

static void
connect_interconnect(void)
{
	ChunkTransportState state = {.failed = 0};
	MotionConn	conn = {.sockfd = -1, .listenerAddr = "127.0.0.1", .listenerPort = SEGMENT};

	if (setjmp(exception_stack) != 0)
		return;
	SetupTCPInterconnect(&state, &conn);
	if (state.failed == 0)
		print_connection("interconnect", conn.sockfd);
}

static void
connect_by(const char *who, bool (*connects) (PGconn *))
{
	PGconn		conn = {.sock = -1};

	conn.raddr.sin_family = AF_INET;
	conn.raddr.sin_port = htons(SEGMENT);
	conn.raddr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connects(&conn))
		print_connection(who, conn.sock);
	else
		puts(conn.errorMessage);
}

static void
connect_libpq(void)
{
	connect_by("libpq", startConnection);
}

static void
connect_to_cancel(void)
{
	connect_by("PQcancel", cancelConnection);
}

/* One segment after the other. */
static void
probe_segments(void)
{
	for (int i = 0; i < 32; i++)
		connect_libpq();
}

static void *
connect_in_thread(void *argument)
{
	connect_libpq();
	return argument;
}

/* As the dispatchers of 4.3, 5 and HAWQ do it. */
static void
wait_in_threads(void)
{
	pthread_t	threads[8];
	double		started = seconds_of(CLOCK_MONOTONIC);

	for (int i = 0; i < 8; i++)
		require(pthread_create(&threads[i], NULL, connect_in_thread, NULL) == 0, "no thread");
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	started = seconds_of(CLOCK_MONOTONIC) - started;
	require(started >= 1.9 && started <= 2.1 + LOAD, "%.2f s", started);
}

/*
 * The next statement: four bind() and two connect(), and the CPU time of the
 * first two bind(), one of which waits.
 */
static void
wait_in_statement(void)
{
	double		most_cpu = 0.08 + 8e-6 * (port_max - port_min);
	double		started = seconds_of(CLOCK_MONOTONIC);
	double		cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);

	statement_start++;
	microseconds_waited = 0;
	open_listener();
	cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	open_listener();
	connect_libpq();
	connect_libpq();
	started = seconds_of(CLOCK_MONOTONIC) - started;
	printf("%.2f s, %.3f s of CPU\n", started, cpu);
	require(started >= 1.9 && started <= 2.3 + LOAD, "%.2f s", started);
	require(microseconds_waited <= 2000000, "waited %ld us", microseconds_waited);
	require(cpu <= most_cpu, "%.3f s of CPU", cpu);
}

static void
has_not_waited(void)
{
	require(microseconds_waited == 0, "waited %ld us", microseconds_waited);
}

static void
has_waited_long(void)
{
	require(microseconds_waited > 1000000, "waited %ld us", microseconds_waited);
}

static void
print_wait(void)
{
	printf("waited %ld ms, interrupts held off: %d\n", microseconds_waited / 1000, InterruptHoldoffCount);
}

static const struct
{
	const char *word;
	void		(*act) (void);
}			words[] = {
	{"by-udp", hold_by_udp}, {"but-one", spare_one}, {"hold-one", hold_one}, {"hold-all", hold_all},
	{"time-waits", leave_time_waits}, {"shared", connect_from_all_ports},
	{"end-one", end_one}, {"grow", add_a_port},
	{"cancel", cancel_query}, {"terminate", terminate_backend}, {"notify", notify},
	{"background", serve_nobody}, {"starting", start_backend}, {"authenticated", end_authentication},
	{"listener", open_listener}, {"udp", open_udp}, {"describe", describe},
	{"interconnect", connect_interconnect}, {"libpq", connect_libpq}, {"PQcancel", connect_to_cancel},
	{"probes", probe_segments}, {"threads", wait_in_threads}, {"statement", wait_in_statement},
	{"no-wait", has_not_waited}, {"long-wait", has_waited_long}, {"waited", print_wait},
};

int
main(int argc, char **argv)
{
	/* A wait that does not end is a failure, too. */
	alarm(60);
	for (int i = 1; i < argc; i++)
	{
		const char *word = argv[i] + strspn(argv[i], "+@");
		size_t		n = 0;

		if (sscanf(word, "%d-%d", &port_min, &port_max) == 2)
		{
			enter_range();
			continue;
		}
		if (strncmp(word, "address=", 8) == 0)
		{
			interconnect_address = argv[i] + 8;
			continue;
		}
		while (n < lengthof(words) && strcmp(words[n].word, word) != 0)
			n++;
		require(n < lengthof(words), "%s: no such word", word);
		if (*argv[i] == '+')
			while_waiting = words[n].act;
		else if (*argv[i] == '@')
			while_logging = words[n].act;
		else
			words[n].act();
	}
	return 0;
}
