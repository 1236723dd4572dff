/*
 * options.c
 *		Every promise of ic_listener.h beside setup_listener()'s own, asked of
 *		the linked library and of the kernel: options, addresses, ports, UDP,
 *		outgoing connections, and what the report says about it all.
 *
 * Each test runs in a forked child, most of them in a network namespace of
 * its own, where nobody else takes ports.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "ic_listener.h"
#include "netns.h"
#include "support.h"

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

typedef struct Kind
{
	const char *name;
	int			type;
	int			(*open) (const IcListenerOptions *options, int *port, int *fd,
						 IcListenerReport *report);
} Kind;

static const Kind tcp = {"TCP", SOCK_STREAM, ic_listener_open_tcp};
static const Kind udp = {"UDP", SOCK_DGRAM, ic_listener_open_udp};
static const Kind *const kinds[] = {&tcp, &udp};

#define for_each_kind(kind) \
	for (const Kind *const *kind##_at = kinds, *kind = kinds[0]; \
		 kind##_at < kinds + lengthof(kinds) && ((kind = *kind##_at), true); \
		 kind##_at++)

/* The case at hand, for the message of a failure. */
static char doing[160] = "";

static void
now_doing(const char *format,...)
			__attribute__((format(printf, 1, 2)));

static void
now_doing(const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(doing, sizeof(doing), format, arguments);
	va_end(arguments);
}

#define expect(condition) \
	require(condition, "%s: not so: %s (errno %d, %s)", \
			doing, #condition, errno, strerror(errno))

#define expect_equal(actual, expected) \
	expect_equal_at(__LINE__, #actual, actual, expected)

#define expect_in(text, part) \
	require(strstr(text, part) != NULL, "%s: \"%s\" has no \"%s\"", \
			doing, text, part)

static void
expect_equal_at(int line, const char *what, long long actual, long long expected)
{
	if (actual != expected)
		fail_child(__FILE__, line, "%s: %s is %lld, not %lld",
				   doing, what, actual, expected);
}

static uint64_t
nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

/* What is promised of every message. */
static void
expect_one_line(const IcListenerReport *report)
{
	size_t		length = strnlen(report->message, sizeof(report->message));

	expect(length > 0);
	expect(length < sizeof(report->message));
	for (size_t i = 0; i < length; i++)
		expect(report->message[i] >= ' ' && report->message[i] <= '~');
}

/*
 * Opens a socket, which has to work, and holds it against what is promised of
 * every one. Returns the fd; the report is filled.
 */
static int
opens(const Kind *kind, const IcListenerOptions *options,
	  IcListenerReport *report)
{
	OpenFds		before = open_fds();
	uint64_t	start = nanoseconds();
	uint64_t	elapsed;
	int			port = 4711;
	int			fd = 4711;
	int			result;
	int			listening = kind->type == SOCK_STREAM;
	char		message[IC_LISTENER_MESSAGE_SIZE];
	static const char *const origins[] = {
		NULL, "was free", "was reused", "was picked by the kernel",
	};

	memset(report, 0xee, sizeof(*report));
	report->size = sizeof(*report);
	result = kind->open(options, &port, &fd, report);
	elapsed = nanoseconds() - start;
	require(result == 0, "%s: %s: %s", doing, kind->name, report->message);

	expect(open_fds_are(&before, fd));
	expect(port >= 1 && port <= 65535);
	expect_equal(local_port(fd), port);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_TYPE), kind->type);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), listening);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), listening);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
	expect_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

	expect_equal(report->size, sizeof(*report));
	expect_equal(report->error, 0);
	expect_equal(report->step, IC_LISTENER_STEP_NONE);
	expect_equal(report->family, socket_option(fd, SOL_SOCKET, SO_DOMAIN));
	expect(report->origin >= IC_LISTENER_PORT_ORIGIN_FREE);
	expect(report->origin <= IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL);
	expect_equal(report->ports_tried, 1 + report->ports_in_use +
				 report->ports_forbidden + report->listens_lost);
	expect(report->elapsed_ns > 0);
	expect(report->elapsed_ns <= elapsed);
	if (report->origin != IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL)
		expect(report->port_min <= port && port <= report->port_max);
	if (options != NULL && options->port_min != 0)
	{
		expect_equal(report->port_min, options->port_min);
		expect_equal(report->port_max, options->port_max);
	}
	snprintf(message, sizeof(message), "port %d %s, %u tried",
			 port, origins[report->origin], report->ports_tried);
	require(strcmp(report->message, message) == 0, "%s: \"%s\", not \"%s\"",
			doing, report->message, message);
	return fd;
}

/*
 * Tries to open a socket, which has to fail in that way, with and without a
 * report. The message has to contain the given text.
 */
static IcListenerReport
refused(const Kind *kind, const IcListenerOptions *options, int error,
		IcListenerStep step, const char *message)
{
	OpenFds		before = open_fds();
	IcListenerReport report;
	IcListenerReport *reports[] = {NULL, &report};

	memset(&report, 0xee, sizeof(report));
	report.size = sizeof(report);
	for (size_t i = 0; i < lengthof(reports); i++)
	{
		int			port = 4711;
		int			fd = 4711;
		int			result;
		int			saved_errno;

		errno = 0;
		result = kind->open(options, &port, &fd, reports[i]);
		saved_errno = errno;
		expect_equal(result, -1);
		expect_equal(saved_errno, error);
		expect_equal(port, 0);
		expect_equal(fd, -1);
		expect(open_fds_are(&before, -1));
	}
	expect_equal(report.size, sizeof(report));
	expect_equal(report.error, error);
	expect_equal(report.step, step);
	expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_NONE);
	/* A port that is not of this host is none of these. */
	expect_equal(report.ports_tried, report.ports_in_use +
				 report.ports_forbidden + report.listens_lost +
				 (error == EADDRNOTAVAIL));
	expect_one_line(&report);
	expect_in(report.message, message);
	return report;
}

/* The numeric address a socket is bound to, in a buffer of the function. */
static const char *
bound_address(int fd)
{
	static char host[NI_MAXHOST];
	struct sockaddr_storage address;
	socklen_t	size = sizeof(address);

	expect(getsockname(fd, (struct sockaddr *) &address, &size) == 0);
	expect(getnameinfo((struct sockaddr *) &address, size, host, sizeof(host),
					   NULL, 0, NI_NUMERICHOST) == 0);
	return host;
}

/* A blocking socket connected to a numeric address. */
static int
connected(int type, const char *host, int port)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = type,
	};
	struct addrinfo *found;
	char		service[16];
	int			fd;

	snprintf(service, sizeof(service), "%d", port);
	expect(getaddrinfo(host, service, &hints, &found) == 0);
	fd = socket(found->ai_family, type | SOCK_CLOEXEC, 0);
	expect(fd >= 0);
	require(connect(fd, found->ai_addr, found->ai_addrlen) == 0,
			"%s: connect to %s, port %d: %s", doing, host, port,
			strerror(errno));
	freeaddrinfo(found);
	return fd;
}

static void
wait_until_readable(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};

	expect_equal(poll(&readable, 1, 10000), 1);
}

static int
accepted(int listener)
{
	int			fd;

	/* It is non-blocking. */
	wait_until_readable(listener);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	expect(fd >= 0);
	return fd;
}

static void
passes(int from, int to)
{
	static int	text;
	int			got = 0;

	text++;
	expect_equal(send(from, &text, sizeof(text), MSG_NOSIGNAL), sizeof(text));
	wait_until_readable(to);
	expect_equal(recv(to, &got, sizeof(got), 0), sizeof(got));
	expect_equal(got, text);
}

/* Data arrives at the socket when it is sent to that address. */
static void
expect_reached_at(const Kind *kind, int fd, const char *host)
{
	int			client = connected(kind->type, host, local_port(fd));

	if (kind->type == SOCK_DGRAM)
		passes(client, fd);
	else
	{
		int			server = accepted(fd);

		passes(client, server);
		passes(server, client);
		close(server);
	}
	close(client);
}

static void
skip_without_ipv6(void)
{
	struct sockaddr_in6 address = {
		.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	int			fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		skip_child("IPv6 on lo: boot without ipv6.disable=1");
	close(fd);
}

/*
 * A place whose end is the end of the memory that may be read, to see that a
 * struct is read no further than its size goes.
 */
static void *
at_the_end_of_memory(size_t size)
{
	long		page = sysconf(_SC_PAGESIZE);
	char	   *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
							 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect(pages != MAP_FAILED);
	expect(mprotect(pages + page, page, PROT_NONE) == 0);
	return pages + page - size;
}

/* ----------
 * Options and reports
 * ----------
 */

static void
defaults_body(void *argument)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	(void) argument;
	skip_without_ipv6();
	for_each_kind(kind)
	{
		const IcListenerOptions *defaults[] = {NULL, &options};
		int			port;
		int			fd;

		for (size_t i = 0; i < lengthof(defaults); i++)
		{
			now_doing("%s, options %s", kind->name, i == 0 ? "NULL" : "INIT");
			fd = opens(kind, defaults[i], &report);
			expect_equal(report.family, AF_INET6);
			expect_equal(socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 0);
			expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_FREE);
			expect_equal(report.port_min, 32768);
			expect_equal(report.port_max, 60999);
			expect(strcmp(bound_address(fd), "::") == 0);
			expect_reached_at(kind, fd, "127.0.0.1");
			expect_reached_at(kind, fd, "::1");
			close(fd);
		}

		now_doing("%s, no options and no report", kind->name);
		expect_equal(kind->open(NULL, &port, &fd, NULL), 0);
		expect_equal(local_port(fd), port);
		close(fd);
	}
}

static void
options_are_only_read_body(void *argument)
{
	IcListenerOptions *options = at_the_end_of_memory(sizeof(*options));
	IcListenerReport report;
	char	   *page = (char *) (options + 1) - sysconf(_SC_PAGESIZE);

	(void) argument;
	*options = (IcListenerOptions) IC_LISTENER_OPTIONS_INIT;
	options->address = strcpy(page, "127.0.0.1");
	expect(mprotect(page, sysconf(_SC_PAGESIZE), PROT_READ) == 0);
	for_each_kind(kind)
		close(opens(kind, options, &report));
}

static const size_t wrong_sizes[] = {
	0, 1, sizeof(size_t), sizeof(size_t) + 1, 65536, SIZE_MAX / 2, SIZE_MAX,
	SIZE_MAX - 7,
};

static void
options_of_another_size_body(void *argument)
{
	IcListenerOptions *options;
	size_t	   *size = at_the_end_of_memory(sizeof(size_t));
	static const int off[] = {-8, -4, -1, 1, 4, 8};

	(void) argument;
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(wrong_sizes); i++)
		{
			now_doing("%s, size %zu", kind->name, wrong_sizes[i]);
			*size = wrong_sizes[i];
			refused(kind, (IcListenerOptions *) size, EINVAL,
					IC_LISTENER_STEP_ARGUMENTS, "size of the options");
		}
		options = calloc(1, sizeof(*options));
		for (size_t i = 0; i < lengthof(off); i++)
		{
			now_doing("%s, size off by %d", kind->name, off[i]);
			options->size = sizeof(*options) + off[i];
			refused(kind, options, EINVAL,
					IC_LISTENER_STEP_ARGUMENTS, "size of the options");
		}
		free(options);
	}
}

/* The report cannot be filled, so that nothing of it may change. */
static void
expect_report_left_alone(const Kind *kind, IcListenerReport *report,
						 const void *bytes, size_t size)
{
	OpenFds		before = open_fds();
	int			port = 4711;
	int			fd = 4711;
	int			result;
	int			saved_errno;

	errno = 0;
	result = kind->open(NULL, &port, &fd, report);
	saved_errno = errno;
	expect_equal(result, -1);
	expect_equal(saved_errno, EINVAL);
	expect_equal(port, 0);
	expect_equal(fd, -1);
	expect(open_fds_are(&before, -1));
	expect(memcmp(report, bytes, size) == 0);
}

static void
report_of_another_size_body(void *argument)
{
	size_t	   *size = at_the_end_of_memory(sizeof(size_t));
	static const int off[] = {-256, -8, -1, 1, 8, 256};

	(void) argument;
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(wrong_sizes); i++)
		{
			now_doing("%s, size %zu", kind->name, wrong_sizes[i]);
			*size = wrong_sizes[i];
			expect_report_left_alone(kind, (IcListenerReport *) size,
									 &wrong_sizes[i], sizeof(size_t));
		}
		for (size_t i = 0; i < lengthof(off); i++)
		{
			IcListenerReport report;
			IcListenerReport copy;

			now_doing("%s, size off by %d", kind->name, off[i]);
			memset(&report, 0xee, sizeof(report));
			report.size = sizeof(report) + off[i];
			memcpy(&copy, &report, sizeof(report));
			expect_report_left_alone(kind, &report, &copy, sizeof(report));
		}
	}
}

static void
outputs_that_cannot_be_written_body(void *argument)
{
	OpenFds		before = open_fds();

	(void) argument;
	for_each_kind(kind)
	{
		int			port = 4711;
		int			fd = 4711;
		struct
		{
			const char *name;
			int		   *port;
			int		   *fd;
		}			cases[] = {
			{"no port", NULL, &fd},
			{"no fd", &port, NULL},
			{"neither", NULL, NULL},
			{"one for both", &port, &port},
		};

		for (size_t i = 0; i < lengthof(cases); i++)
		{
			IcListenerReport report = IC_LISTENER_REPORT_INIT;
			int			result;

			now_doing("%s, %s", kind->name, cases[i].name);
			port = fd = 4711;
			errno = 0;
			result = kind->open(NULL, cases[i].port, cases[i].fd, &report);
			expect_equal(errno, EINVAL);
			expect_equal(result, -1);
			expect(cases[i].fd != &fd || fd == -1);
			expect(cases[i].port != &port || port == 0 ||
				   (cases[i].fd == &port && port == -1));
			expect_equal(report.error, EINVAL);
			expect_equal(report.step, IC_LISTENER_STEP_ARGUMENTS);
			expect_in(report.message, "port and fd");
			expect(open_fds_are(&before, -1));
		}
	}
}

static void
backlog_body(void *argument)
{
	static const struct
	{
		int			backlog;
		unsigned	expected;
	}			cases[] = {{0, 128}, {1, 1}, {128, 128}, {1024, 1024},
						   {4096, 1024}, {INT_MAX, 1024}};
	static const int negative[] = {-1, -128, INT_MIN};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	(void) argument;
	set_sysctl("net.core.somaxconn", "1024");
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		struct tcp_info info;
		socklen_t	size = sizeof(info);
		int			fd;

		now_doing("backlog %d", cases[i].backlog);
		options.backlog = cases[i].backlog;
		fd = opens(&tcp, &options, &report);
		expect(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
		expect_equal(info.tcpi_sacked, cases[i].expected);
		close(fd);
	}
	for (size_t i = 0; i < lengthof(negative); i++)
	{
		now_doing("backlog %d", negative[i]);
		options.backlog = negative[i];
		refused(&tcp, &options, EINVAL, IC_LISTENER_STEP_ARGUMENTS, "backlog");
	}
}

static void
listen_retries_body(void *argument)
{
	static const int good[] = {0, 1, INT_MAX};
	static const int negative[] = {-1, INT_MIN};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	(void) argument;
	for (size_t i = 0; i < lengthof(good); i++)
	{
		now_doing("listen_retries %d", good[i]);
		options.listen_retries = good[i];
		close(opens(&tcp, &options, &report));
	}
	for (size_t i = 0; i < lengthof(negative); i++)
	{
		now_doing("listen_retries %d", negative[i]);
		options.listen_retries = negative[i];
		refused(&tcp, &options, EINVAL, IC_LISTENER_STEP_ARGUMENTS,
				"listen_retries");
	}
}

/* ----------
 * Ports
 * ----------
 */

/*
 * Takes every port of the range, each once and none outside it. Leaves them
 * open.
 */
static void
takes_each_port_once(const Kind *kind, const IcListenerOptions *options,
					 int port_min, int port_max, IcListenerPortOrigin origin)
{
	bool		taken[65536] = {false};
	IcListenerReport report;

	for (int i = port_min; i <= port_max; i++)
	{
		int			port = local_port(opens(kind, options, &report));

		expect(port >= port_min && port <= port_max);
		expect(!taken[port]);
		taken[port] = true;
		expect_equal(report.origin, origin);
		expect_equal(report.ports_forbidden, 0);
		expect_equal(report.listens_lost, 0);
	}
}

static void
exactly_these_ports_body(void *argument)
{
	static const struct
	{
		int			min;
		int			max;
	}			cases[] = {{7001, 7001}, {7100, 7101}, {7200, 7209},
						   {65530, 65535}, {33000, 33032}};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	(void) argument;

	/* An administrator who reserves ports does so for those who name them. */
	set_sysctl("net.ipv4.ip_local_reserved_ports", "7200-7204,33000-33032");
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(cases); i++)
		{
			unsigned	ports = cases[i].max - cases[i].min + 1;
			char		message[IC_LISTENER_MESSAGE_SIZE];
			IcListenerReport report;

			now_doing("%s, ports %d to %d", kind->name,
					  cases[i].min, cases[i].max);
			options.port_min = cases[i].min;
			options.port_max = cases[i].max;
			takes_each_port_once(kind, &options, cases[i].min, cases[i].max,
								 IC_LISTENER_PORT_ORIGIN_FREE);

			snprintf(message, sizeof(message),
					 "no port to listen on in %d-%d: %u tried, %u in use",
					 cases[i].min, cases[i].max, ports, ports);
			report = refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND,
							 message);
			expect_equal(strlen(report.message), strlen(message));
			expect_equal(report.port_min, cases[i].min);
			expect_equal(report.port_max, cases[i].max);
			expect_equal(report.ports_tried, ports);
			expect_equal(report.ports_in_use, ports);
			expect_equal(report.listens_lost, 0);
			expect(report.elapsed_ns > 0);
		}
	}
}

static void
ports_that_are_none_body(void *argument)
{
	static const struct
	{
		int			min;
		int			max;
	}			cases[] = {
		{2000, 1999}, {65535, 1}, {5000, 0}, {0, 5000}, {-1, -1}, {-1, 5000},
		{5000, -1}, {1, 65536}, {65536, 65536}, {70000, 70000}, {0, 70000},
		/* Would be fine in 16 bits. */
		{65536 + 5000, 65536 + 5001}, {-60536, -60535},
		{INT_MIN, INT_MAX}, {INT_MIN, INT_MIN}, {INT_MAX, INT_MAX},
		{0, 65536}, {65536, 0},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	(void) argument;
	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(cases); i++)
		{
			now_doing("%s, ports %d to %d", kind->name,
					  cases[i].min, cases[i].max);
			options.port_min = cases[i].min;
			options.port_max = cases[i].max;
			refused(kind, &options, EINVAL, IC_LISTENER_STEP_ARGUMENTS, "port");
		}
	}
}

static void
the_host_s_range_body(void *argument)
{
	const Kind *kind = argument;
	IcListenerReport report;

	now_doing("%s", kind->name);
	set_port_range(40000, 40019);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40010-40019");
	takes_each_port_once(kind, NULL, 40000, 40009,
						 IC_LISTENER_PORT_ORIGIN_FREE);
	report = refused(kind, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
					 "no port to listen on in 40000-40019: 10 tried, 10 in use");
	expect_equal(report.port_min, 40000);
	expect_equal(report.port_max, 40019);
}

static void
everything_reserved_body(void *argument)
{
	const Kind *kind = argument;

	now_doing("%s", kind->name);
	set_port_range(40000, 40003);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40000-40003");
	refused(kind, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
			"no port to listen on in 40000-40003: all of them are reserved");
}

/* What root is spared: privileged ports are refused. */
static void
drop_net_bind_service(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	expect(syscall(SYS_capget, &header, data) == 0);
	data[0].effective &= ~(1u << CAP_NET_BIND_SERVICE);
	expect(syscall(SYS_capset, &header, data) == 0);
}

static void
privileged_ports_body(void *argument)
{
	const Kind *kind = argument;
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;
	uint32_t	forbidden = 0;

	now_doing("%s", kind->name);
	set_sysctl("net.ipv4.ip_unprivileged_port_start", "1024");
	drop_net_bind_service();

	/* Those that are refused are passed over. */
	options.port_min = 1014;
	options.port_max = 1033;
	for (int i = 0; i < 10; i++)
	{
		expect(local_port(opens(kind, &options, &report)) >= 1024);
		forbidden += report.ports_forbidden;
	}
	expect(forbidden > 0);
	report = refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND,
					 "no port to listen on in 1014-1033: "
					 "20 tried, 10 in use, 10 not permitted");
	expect_equal(report.ports_in_use, 10);
	expect_equal(report.ports_forbidden, 10);

	options.port_max = 1023;
	report = refused(kind, &options, EACCES, IC_LISTENER_STEP_BIND,
					 "no port to listen on in 1014-1023: "
					 "10 tried, 10 not permitted");
	expect_equal(report.ports_in_use, 0);
	expect_equal(report.ports_forbidden, 10);
}

/* /proc/sys/net cannot be read, as in some containers: the kernel picks. */
static void
unknown_range_body(void *argument)
{
	const Kind *kind = argument;
	IcListenerReport report;

	now_doing("%s", kind->name);
	set_port_range(40000, 40003);
	if (unshare(CLONE_NEWNS) != 0 ||
		mount("", "/", "", MS_REC | MS_PRIVATE, NULL) != 0 ||
		mount("tmpfs", "/proc/sys/net", "tmpfs", 0, NULL) != 0)
		skip_child("a mount over /proc/sys/net: run as root with "
				   "CAP_SYS_ADMIN (%s)", strerror(errno));
	for (int i = 0; i < 4; i++)
	{
		opens(kind, NULL, &report);
		expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL);
		expect_equal(report.port_min, 0);
		expect_equal(report.port_max, 0);
		expect_equal(report.ports_tried, 1);
	}
	report = refused(kind, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
					 "the ephemeral port range cannot be read");
	expect_equal(report.port_min, 0);
	expect_equal(report.port_max, 0);
}

/* ----------
 * Addresses
 * ----------
 */

static void
addresses_body(void *argument)
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
	static const char *const bindv6only[] = {"0", "1"};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	(void) argument;
	skip_without_ipv6();
	for (size_t v6only = 0; v6only < lengthof(bindv6only); v6only++)
	{
		set_sysctl("net.ipv6.bindv6only", "%s", bindv6only[v6only]);
		for_each_kind(kind)
		{
			for (size_t i = 0; i < lengthof(cases); i++)
			{
				int			fd;

				now_doing("%s, address %s, bindv6only %s", kind->name,
						  cases[i].address, bindv6only[v6only]);
				options.address = cases[i].address;
				fd = opens(kind, &options, &report);
				expect_equal(report.family, cases[i].family);
				require(strcmp(bound_address(fd), cases[i].bound) == 0,
						"%s: bound to %s", doing, bound_address(fd));
				expect_reached_at(kind, fd, cases[i].reached_at);
				if (cases[i].also_at != NULL)
					expect_reached_at(kind, fd, cases[i].also_at);
				close(fd);
			}
		}
	}
}

/* Each unicast address has a port space of its own (gpdb PR 9696). */
static void
port_space_of_an_address_body(void *argument)
{
	static const char *const addresses[] = {
		"127.0.0.1", "127.0.0.2", "127.0.0.3",
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	(void) argument;
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

/* From now on socket(AF_INET6) fails as it does on a host without IPv6. */
static void
lose_ipv6(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
				 offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {lengthof(code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		skip_child("seccomp filters: a kernel with CONFIG_SECCOMP_FILTER");
}

static void
ipv4_only_body(void *argument)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	(void) argument;
	lose_ipv6();
	for_each_kind(kind)
	{
		int			fd;

		now_doing("%s, no IPv6", kind->name);
		fd = opens(kind, NULL, &report);
		expect_equal(report.family, AF_INET);
		expect(strcmp(bound_address(fd), "0.0.0.0") == 0);
		expect_reached_at(kind, fd, "127.0.0.1");
		close(fd);

		/* Who asks for IPv6 by its address gets no IPv4 instead. */
		now_doing("%s, address ::1, no IPv6", kind->name);
		options.address = "::1";
		report = refused(kind, &options, EAFNOSUPPORT, IC_LISTENER_STEP_SOCKET,
						 "socket: ");
		expect_equal(report.family, AF_INET6);
	}
}

/* Switched off on the interfaces, but there: the wildcard has no need of it. */
static void
ipv6_without_addresses_body(void *argument)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	(void) argument;
	skip_without_ipv6();
	set_sysctl("net.ipv6.conf.all.disable_ipv6", "1");
	for_each_kind(kind)
	{
		int			fd;

		now_doing("%s, disable_ipv6", kind->name);
		fd = opens(kind, NULL, &report);
		expect_reached_at(kind, fd, "127.0.0.1");
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

static void
link_local_body(void *argument)
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

	(void) argument;
	skip_without_ipv6();

	/* An interface may have digits for a name; the name goes first. */
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
			require(strcmp(bound_address(fd), bound[i]) == 0,
					"%s: bound to %s", doing, bound_address(fd));
			expect_reached_at(kind, fd, bound[i]);
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

static void
not_an_address_body(void *argument)
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

	(void) argument;
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

static void
not_this_host_s_body(void *argument)
{
	static const char *const addresses[] = {
		"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1",
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	(void) argument;
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

/* ----------
 * UDP
 * ----------
 */

#define UDP_PORTS 64
#define UDP_ROUNDS 10

typedef struct Taken
{
	int			result;
	int			error;
	int			port;
} Taken;

static void
take_one(int index, void *result, void *argument)
{
	Taken	   *taken = result;
	int			fd;

	(void) index;
	taken->result = ic_listener_open_udp(argument, &taken->port, &fd, NULL);
	taken->error = errno;
}

/*
 * One starter more than there are ports: as nobody gives a port back, all of
 * them are taken, each by one process, and the odd one out is told so.
 */
static void
udp_ports_are_given_once_body(void *argument)
{
	(void) argument;
	set_port_range(40000, 40000 + UDP_PORTS - 1);
	for (int round = 0; round < UDP_ROUNDS; round++)
	{
		Taken		taken[UDP_PORTS + 1];
		bool		seen[UDP_PORTS] = {false};
		int			left_out = 0;

		now_doing("round %d", round);
		run_at_once(lengthof(taken), take_one, NULL, taken, sizeof(Taken));
		for (size_t i = 0; i < lengthof(taken); i++)
		{
			int			offset = taken[i].port - 40000;

			if (taken[i].result != 0)
			{
				expect_equal(taken[i].error, EADDRINUSE);
				expect_equal(taken[i].port, 0);
				left_out++;
				continue;
			}
			expect(offset >= 0 && offset < UDP_PORTS);
			require(!seen[offset], "%s: port %d was given twice",
					doing, taken[i].port);
			seen[offset] = true;
		}
		expect_equal(left_out, 1);
	}
}

/* ----------
 * Outgoing connections
 * ----------
 */

#define OUT_PORTS 8
#define OUT_MIN 40000
#define OUT_MAX (OUT_MIN + OUT_PORTS - 1)
#define SERVER_PORT 7000

typedef enum Sharing
{
	NEVER,
	BEFORE_CONNECT,
	AFTER_CONNECT,
} Sharing;

typedef struct Outgoing
{
	Sharing		sharing;
	const char *host;			/* where the connections go to */
	bool		time_wait;		/* closed by the client, or in use */
} Outgoing;

static int
plain_listener(const char *host)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

	options.address = host;
	options.port_min = options.port_max = SERVER_PORT;
	return opens(&tcp, &options, &report);
}

static int
outgoing_connection(const Outgoing *outgoing)
{
	struct sockaddr_in ipv4 = {
		.sin_family = AF_INET,
		.sin_port = htons(SERVER_PORT),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr_in6 ipv6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(SERVER_PORT),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	bool		is_ipv6 = strchr(outgoing->host, ':') != NULL;
	int			fd = socket(is_ipv6 ? AF_INET6 : AF_INET,
							SOCK_STREAM | SOCK_CLOEXEC, 0);

	expect(fd >= 0);
	if (outgoing->sharing == BEFORE_CONNECT)
		expect_equal(ic_listener_share_port(fd), 0);
	if (is_ipv6)
		expect(connect(fd, (struct sockaddr *) &ipv6, sizeof(ipv6)) == 0);
	else
		expect(connect(fd, (struct sockaddr *) &ipv4, sizeof(ipv4)) == 0);
	if (outgoing->sharing == AFTER_CONNECT)
		expect_equal(ic_listener_share_port(fd), 0);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR),
				 outgoing->sharing != NEVER);
	return fd;
}

/* The client's end goes to TIME_WAIT. */
static void
close_client_first(int client, int server)
{
	char		byte;

	expect(shutdown(client, SHUT_WR) == 0);
	expect_equal(recv(server, &byte, 1, 0), 0);
	close(server);

	/* The end of the stream is read when the server's FIN has come. */
	expect_equal(recv(client, &byte, 1, 0), 0);
	close(client);
}

/*
 * Outgoing connections on every port of the range. Their ports can be taken by
 * listeners if, and only if, ic_listener_share_port() was called.
 */
static void
outgoing_body(void *argument)
{
	const Outgoing *outgoing = argument;
	int			clients[OUT_PORTS];
	int			servers[OUT_PORTS];
	int			listener;

	now_doing("to %s", outgoing->host);
	skip_without_ipv6();
	set_port_range(OUT_MIN, OUT_MAX);
	listener = plain_listener(outgoing->host);
	for (int i = 0; i < OUT_PORTS; i++)
	{
		clients[i] = outgoing_connection(outgoing);
		servers[i] = accepted(listener);
	}
	for (int i = 0; outgoing->time_wait && i < OUT_PORTS; i++)
		close_client_first(clients[i], servers[i]);

	if (outgoing->sharing == NEVER)
		refused(&tcp, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
				"no port to listen on in 40000-40007: 8 tried, 8 in use");
	else
	{
		IcListenerReport report;
		int			fd;

		fd = opens(&tcp, NULL, &report);
		expect_equal(report.origin, IC_LISTENER_PORT_ORIGIN_REUSED);
		expect_equal(report.ports_tried, OUT_PORTS);
		expect_equal(report.ports_in_use, OUT_PORTS - 1);
		close(fd);
		takes_each_port_once(&tcp, NULL, OUT_MIN, OUT_MAX,
							 IC_LISTENER_PORT_ORIGIN_REUSED);
	}

	/* The connections did not notice. */
	for (int i = 0; !outgoing->time_wait && i < OUT_PORTS; i++)
	{
		passes(clients[i], servers[i]);
		passes(servers[i], clients[i]);
	}
}

static void
share_port_on_anything_else_body(void *argument)
{
	OpenFds		before;
	int			pipes[2];
	int			file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int			datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int			closed = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void) argument;
	expect(pipe(pipes) == 0);
	close(closed);
	before = open_fds();
	{
		const struct
		{
			const char *name;
			int			fd;
			int			error;
		}			cases[] = {
			{"-1", -1, EBADF},
			{"-2", -2, EBADF},
			{"INT_MIN", INT_MIN, EBADF},
			{"9999", 9999, EBADF},
			{"INT_MAX", INT_MAX, EBADF},
			{"a closed one", closed, EBADF},
			{"a file", file, ENOTSOCK},
			{"a pipe", pipes[0], ENOTSOCK},
			{"a UDP socket", datagram, EPROTOTYPE},
		};

		for (size_t i = 0; i < lengthof(cases); i++)
		{
			now_doing("fd %s", cases[i].name);
			errno = 0;
			expect_equal(ic_listener_share_port(cases[i].fd), -1);
			expect_equal(errno, cases[i].error);
			expect(open_fds_are(&before, -1));
		}
	}
	expect_equal(socket_option(datagram, SOL_SOCKET, SO_REUSEADDR), 0);
}

/* ----------
 * Names and numbers
 * ----------
 */

static void
step_names_body(void *argument)
{
	static const char *const names[] = {
		[IC_LISTENER_STEP_NONE] = "none",
		[IC_LISTENER_STEP_ARGUMENTS] = "arguments",
		[IC_LISTENER_STEP_ADDRESS] = "address",
		[IC_LISTENER_STEP_SOCKET] = "socket",
		[IC_LISTENER_STEP_SETSOCKOPT] = "setsockopt",
		[IC_LISTENER_STEP_BIND] = "bind",
		[IC_LISTENER_STEP_LISTEN] = "listen",
		[IC_LISTENER_STEP_GETSOCKNAME] = "getsockname",
		[IC_LISTENER_STEP_INTERNAL] = "internal",
	};
	static const int unknown[] = {-1, lengthof(names), 255, INT_MIN, INT_MAX};

	(void) argument;
	for (size_t i = 0; i < lengthof(names); i++)
	{
		now_doing("step %zu", i);
		expect(strcmp(ic_listener_step_name(i), names[i]) == 0);
	}
	for (size_t i = 0; i < lengthof(unknown); i++)
	{
		now_doing("step %d", unknown[i]);
		expect(strcmp(ic_listener_step_name(unknown[i]), "unknown") == 0);
	}
}

static void
version_body(void *argument)
{
	char		numbers[32];

	(void) argument;
	snprintf(numbers, sizeof(numbers), "%d.%d.%d", IC_LISTENER_VERSION_MAJOR,
			 IC_LISTENER_VERSION_MINOR, IC_LISTENER_VERSION_PATCH);
	expect(strcmp(ic_listener_version(), IC_LISTENER_VERSION) == 0);
	expect(strcmp(ic_listener_version(), numbers) == 0);
}

/* ----------
 * The tests
 * ----------
 */

#define TEST(name) \
	static void \
	name(void **state) \
	{ \
		(void) state; \
		assert_int_equal(in_child(name##_body, NULL), 0); \
	}

#define TEST_IN_NETNS(name) \
	static void \
	name(void **state) \
	{ \
		(void) state; \
		assert_passes_in_netns(name##_body, NULL); \
	}

/* One namespace for each, as what TCP did to the ports concerns UDP too. */
#define TEST_KINDS_IN_NETNS(name) \
	static void \
	name(void **state) \
	{ \
		(void) state; \
		for_each_kind(kind) \
			assert_passes_in_netns(name##_body, (void *) kind); \
	}

TEST_IN_NETNS(defaults)
TEST(options_are_only_read)
TEST(options_of_another_size)
TEST(report_of_another_size)
TEST(outputs_that_cannot_be_written)
TEST_IN_NETNS(backlog)
TEST(listen_retries)
TEST_IN_NETNS(exactly_these_ports)
TEST(ports_that_are_none)
TEST_KINDS_IN_NETNS(the_host_s_range)
TEST_KINDS_IN_NETNS(everything_reserved)
TEST_KINDS_IN_NETNS(privileged_ports)
TEST_KINDS_IN_NETNS(unknown_range)
TEST_IN_NETNS(addresses)
TEST_IN_NETNS(port_space_of_an_address)
TEST_IN_NETNS(ipv4_only)
TEST_IN_NETNS(ipv6_without_addresses)
TEST_IN_NETNS(link_local)
TEST(not_an_address)
TEST_IN_NETNS(not_this_host_s)
TEST_IN_NETNS(udp_ports_are_given_once)
TEST(share_port_on_anything_else)
TEST(step_names)
TEST(version)

static void
outgoing(Sharing sharing, bool time_wait)
{
	static const char *const hosts[] = {"127.0.0.1", "::1"};

	for (size_t i = 0; i < lengthof(hosts); i++)
	{
		Outgoing	outgoing = {sharing, hosts[i], time_wait};

		assert_passes_in_netns(outgoing_body, &outgoing);
	}
}

static void
outgoing_ports_in_use_are_out_of_reach(void **state)
{
	(void) state;
	outgoing(NEVER, false);
}

static void
outgoing_ports_in_time_wait_are_out_of_reach(void **state)
{
	(void) state;
	outgoing(NEVER, true);
}

static void
shared_before_connect_in_use(void **state)
{
	(void) state;
	outgoing(BEFORE_CONNECT, false);
}

static void
shared_before_connect_in_time_wait(void **state)
{
	(void) state;
	outgoing(BEFORE_CONNECT, true);
}

static void
shared_after_connect_in_use(void **state)
{
	(void) state;
	outgoing(AFTER_CONNECT, false);
}

static void
shared_after_connect_in_time_wait(void **state)
{
	(void) state;
	outgoing(AFTER_CONNECT, true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(options_are_only_read),
		cmocka_unit_test(options_of_another_size),
		cmocka_unit_test(report_of_another_size),
		cmocka_unit_test(outputs_that_cannot_be_written),
		cmocka_unit_test(backlog),
		cmocka_unit_test(listen_retries),
		cmocka_unit_test(exactly_these_ports),
		cmocka_unit_test(ports_that_are_none),
		cmocka_unit_test(the_host_s_range),
		cmocka_unit_test(everything_reserved),
		cmocka_unit_test(privileged_ports),
		cmocka_unit_test(unknown_range),
		cmocka_unit_test(addresses),
		cmocka_unit_test(port_space_of_an_address),
		cmocka_unit_test(ipv4_only),
		cmocka_unit_test(ipv6_without_addresses),
		cmocka_unit_test(link_local),
		cmocka_unit_test(not_an_address),
		cmocka_unit_test(not_this_host_s),
		cmocka_unit_test(udp_ports_are_given_once),
		cmocka_unit_test(outgoing_ports_in_use_are_out_of_reach),
		cmocka_unit_test(outgoing_ports_in_time_wait_are_out_of_reach),
		cmocka_unit_test(shared_before_connect_in_use),
		cmocka_unit_test(shared_before_connect_in_time_wait),
		cmocka_unit_test(shared_after_connect_in_use),
		cmocka_unit_test(shared_after_connect_in_time_wait),
		cmocka_unit_test(share_port_on_anything_else),
		cmocka_unit_test(step_names),
		cmocka_unit_test(version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
