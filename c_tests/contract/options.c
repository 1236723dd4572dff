/*
 * options.c
 *		Options and reports as ic_listener.h promises them: sizes, backlog,
 *		ports, what is refused; and the functions that only answer.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "promises.h"
#include "test.h"

/*
 * Memory that ends where it may no longer be read: a struct must not be read
 * beyond its size.
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

TEST_IN_NETNS(defaults)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

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
			expect(local_port(fd) >= 32768 && local_port(fd) <= 60999);
			expect(strcmp(local_address(fd), "::") == 0);
			reach(fd, "127.0.0.1");
			reach(fd, "::1");
			close(fd);
		}

		now_doing("%s, no options and no report", kind->name);
		expect_equal(kind->open(NULL, &port, &fd, NULL), 0);
		expect_equal(local_port(fd), port);
		close(fd);
	}
}

TEST(options_are_only_read)
{
	IcListenerOptions *options = at_the_end_of_memory(sizeof(*options));
	IcListenerReport report;
	char	   *page = (char *) (options + 1) - sysconf(_SC_PAGESIZE);

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

TEST(options_of_another_size)
{
	IcListenerOptions *options;
	size_t	   *size = at_the_end_of_memory(sizeof(size_t));
	static const int below[] = {-8, -4, -1};
	static const int above[] = {1, 4, 8, 1024};

	for_each_kind(kind)
	{
		for (size_t i = 0; i < lengthof(wrong_sizes); i++)
		{
			now_doing("%s, size %zu", kind->name, wrong_sizes[i]);
			*size = wrong_sizes[i];
			refused(kind, (IcListenerOptions *) size, EINVAL,
					IC_LISTENER_STEP_ARGUMENTS, "size of the options");
		}
		for (size_t i = 0; i < lengthof(below); i++)
		{
			now_doing("%s, size off by %d", kind->name, below[i]);
			options = calloc(1, sizeof(*options));
			options->size = sizeof(*options) + below[i];
			refused(kind, options, EINVAL,
					IC_LISTENER_STEP_ARGUMENTS, "size of the options");
			free(options);
		}

		/* A later version's: taken while the rest is zero. */
		for (size_t i = 0; i < lengthof(above); i++)
		{
			char	   *end;
			IcListenerReport report;

			now_doing("%s, size off by %d", kind->name, above[i]);
			options = calloc(1, sizeof(*options) + above[i]);
			end = (char *) (options + 1);
			options->size = sizeof(*options) + above[i];
			options->address = "127.0.0.1";
			close(opens(kind, options, &report));
			end[above[i] - 1] = 1;
			refused(kind, options, EINVAL,
					IC_LISTENER_STEP_ARGUMENTS, "size of the options");
			free(options);
		}
	}
}

/* The report cannot be filled, so nothing of it may change. */
static void
expect_report_left_alone(const Kind *kind, IcListenerReport *report,
						 const void *bytes, size_t size)
{
	OpenFds		before = open_fds();
	int			port = UNTOUCHED;
	int			fd = UNTOUCHED;
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

TEST(report_of_another_size)
{
	size_t	   *size = at_the_end_of_memory(sizeof(size_t));

	/* Version 0.1 had everything up to the message. */
	const size_t least = offsetof(IcListenerReport, message) +
		IC_LISTENER_MESSAGE_SIZE;
	static const int off[] = {-256, -8, -1};
	const size_t good[] = {
		least, least + 1, sizeof(IcListenerReport) - 4,
		sizeof(IcListenerReport), sizeof(IcListenerReport) + 1, 4096,
	};

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
			report.size = least + off[i];
			memcpy(&copy, &report, sizeof(report));
			expect_report_left_alone(kind, &report, &copy, sizeof(report));
		}
		for (size_t i = 0; i < lengthof(good); i++)
		{
			IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
			IcListenerReport *report = at_the_end_of_memory(good[i]);
			int			port;
			int			fd;

			/* From an older or a newer program: filled as far as it goes. */
			now_doing("%s, size %zu", kind->name, good[i]);
			memset(report, 0xee, good[i]);
			report->size = good[i];
			options.backlog = -1;
			expect_equal(kind->open(&options, &port, &fd, report), -1);
			expect_equal(report->size, good[i]);
			expect_equal(report->error, EINVAL);
			expect_in(report->message, "backlog");
			for (size_t at = least; at < good[i]; at++)
				expect_equal(((char *) report)[at], 0);
		}
	}
}

TEST(outputs_that_cannot_be_written)
{
	OpenFds		before = open_fds();

	for_each_kind(kind)
	{
		int			port = UNTOUCHED;
		int			fd = UNTOUCHED;
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
			port = fd = UNTOUCHED;
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

TEST_IN_NETNS(backlog)
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

TEST(listen_retries)
{
	static const int good[] = {0, 1, INT_MAX};
	static const int negative[] = {-1, INT_MIN};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;

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

TEST_IN_NETNS(exactly_these_ports)
{
	static const struct
	{
		int			min;
		int			max;
	}			cases[] = {{7001, 7001}, {7100, 7101}, {7200, 7209},
						   {65530, 65535}, {33000, 33032}};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	/* An administrator reserves ports for callers who name them. */
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
					 "no %s in %d-%d: %u tried, %u in use: %u %s",
					 kind == &udp ? "UDP port" : "port to listen on",
					 cases[i].min, cases[i].max, ports, ports, ports,
					 kind == &udp ? "bound" :
					 ports == 1 ? "listener" : "listeners");
			report = refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND,
							 message);
			expect_equal(strlen(report.message), strlen(message));
			expect_equal(report.port_min, cases[i].min);
			expect_equal(report.port_max, cases[i].max);
			expect_equal(report.ports_tried, ports);
			expect_equal(report.ports_in_use, ports);
			expect_equal(report.listens_lost, 0);
			expect(report.census_source != IC_LISTENER_CENSUS_SOURCE_NONE);
			expect_equal(report.census_complete, 1);
			expect_equal(report.ports_listening, kind == &udp ? 0 : ports);
			expect_equal(report.ports_bound, kind == &udp ? ports : 0);
			expect_equal(report.ports_unknown, 0);
			expect(report.elapsed_ns > 0);
		}
	}
}

TEST(ports_that_are_none)
{
	static const struct
	{
		int			min;
		int			max;
	}			cases[] = {
		{2000, 1999}, {65535, 1}, {5000, 0}, {0, 5000}, {-1, -1}, {-1, 5000},
		{5000, -1}, {1, 65536}, {65536, 65536}, {70000, 70000}, {0, 70000},
		/* Valid if they were cut to 16 bits. */
		{65536 + 5000, 65536 + 5001}, {-60536, -60535},
		{INT_MIN, INT_MAX}, {INT_MIN, INT_MIN}, {INT_MAX, INT_MAX},
		{0, 65536}, {65536, 0},
	};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

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

TEST_KINDS_IN_NETNS(the_host_s_range)
{
	IcListenerReport report;

	set_port_range(40000, 40019);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40010-40019");
	takes_each_port_once(kind, NULL, 40000, 40009,
						 IC_LISTENER_PORT_ORIGIN_FREE);
	report = refused(kind, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
					 "in 40000-40019: 10 tried, 10 in use");
	expect_equal(report.port_min, 40000);
	expect_equal(report.port_max, 40019);
}

/*
 * Nine ports of ten are held: most calls are refused some before they win
 * one.
 */
TEST_IN_NETNS(ports_in_use_are_counted)
{
	Neighbour	neighbour = {.address = "::", .listens = true};
	Ports		held = ports_from_to(40000, 40999);
	uint32_t	in_use = 0;

	skip_without_ipv6();
	set_port_range(40000, 40999);
	for (int port = 40000; port <= 40999; port += 10)
		held.has[port + port / 10 % 10] = false;
	hold_ports(&neighbour, &held);
	for (int i = 0; i < 50; i++)
	{
		IcListenerReport report;

		close(opens(&tcp, NULL, &report));
		in_use += report.ports_in_use;
	}
	expect(in_use > 0);
}

TEST_KINDS_IN_NETNS(everything_reserved)
{

	set_port_range(40000, 40003);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40000-40003");
	refused(kind, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
			"in 40000-40003: all of them are reserved");
}

TEST_KINDS_IN_NETNS(privileged_ports)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report;
	uint32_t	forbidden = 0;

	set_sysctl("net.ipv4.ip_unprivileged_port_start", "1024");
	drop_privileges();

	/* Forbidden ports are passed over. */
	options.port_min = 1014;
	options.port_max = 1033;
	for (int i = 0; i < 10; i++)
	{
		expect(local_port(opens(kind, &options, &report)) >= 1024);
		forbidden += report.ports_forbidden;
	}
	expect(forbidden > 0);
	report = refused(kind, &options, EADDRINUSE, IC_LISTENER_STEP_BIND,
					 " in 1014-1033: 20 tried, 10 in use, 10 forbidden");
	expect_equal(report.ports_in_use, 10);
	expect_equal(report.ports_forbidden, 10);

	options.port_max = 1023;
	report = refused(kind, &options, EACCES, IC_LISTENER_STEP_BIND,
					 " in 1014-1023: 10 tried, 10 forbidden");
	expect_equal(report.ports_in_use, 0);
	expect_equal(report.ports_forbidden, 10);
}

#define CANNOT_BE_READ \
	"/proc/sys/net/ipv4/ip_local_port_range cannot be read " \
	"(No such file or directory), and the kernel found no port"

/* /proc/sys/net cannot be read, as in some containers. It is not needed. */
TEST_KINDS_IN_NETNS(unknown_range)
{
	IcListenerReport report;

	set_port_range(40000, 40003);
	enter_mount_namespace();
	if (mount("tmpfs", "/proc/sys/net", "tmpfs", 0, NULL) != 0)
		skip_child("a mount over /proc/sys/net: run as root with "
				   "CAP_SYS_ADMIN (%s)", strerror(errno));
	for (int i = 0; i < 4; i++)
	{
		opens(kind, NULL, &report);
		expect(report.origin != IC_LISTENER_PORT_ORIGIN_REUSED);
		expect_equal(report.port_min, 0);
		expect_equal(report.port_max, 0);
	}
	report = refused(kind, NULL, EADDRINUSE, IC_LISTENER_STEP_BIND,
					 kind == &udp ? "no UDP port: " CANNOT_BE_READ :
					 "no port to listen on: " CANNOT_BE_READ);
	expect_equal(report.port_min, 0);
	expect_equal(report.port_max, 0);
}

TEST(step_names)
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
		[IC_LISTENER_STEP_CONNECT] = "connect",
	};
	static const int unknown[] = {-1, lengthof(names), 255, INT_MIN, INT_MAX};

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

TEST(version)
{
	char		numbers[32];

	snprintf(numbers, sizeof(numbers), "%d.%d.%d", IC_LISTENER_VERSION_MAJOR,
			 IC_LISTENER_VERSION_MINOR, IC_LISTENER_VERSION_PATCH);
	expect(strcmp(ic_listener_version(), IC_LISTENER_VERSION) == 0);
	expect(strcmp(ic_listener_version(), numbers) == 0);
}

int
main(void)
{
	return run_all(
		test(defaults),
		test(options_are_only_read),
		test(options_of_another_size),
		test(report_of_another_size),
		test(outputs_that_cannot_be_written),
		test(backlog),
		test(listen_retries),
		test(exactly_these_ports),
		test(ports_that_are_none),
		test(the_host_s_range),
		test(ports_in_use_are_counted),
		test(everything_reserved),
		test(privileged_ports),
		test(unknown_range),
		test(step_names),
		test(version));
}
