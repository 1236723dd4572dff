/*
 * contract.c
 *		What every call promises: the socket of setup_listener(), outputs,
 *		sizes of structs, and what the linker sees.
 *		(Each test closes its sockets: valgrind.sh looks for those left open.)
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"

#define CALLERS 8
#define PER_CALLER 50

TEST_IN_NETNS(the_socket_is_as_promised)
{
	struct sockaddr_storage expected;
	struct sockaddr_storage address;
	struct tcp_info info;
	socklen_t	size = sizeof(address);
	socklen_t	info_size = sizeof(info);
	OpenFds		before = open_fds();
	Call		call = call_setup_listener();
	int			fd = call.fd;

	skip_without_ipv6();
	expect_equal(call.returned, 0);
	expect(open_fds_are(&before, fd));
	expect(call.port >= 32768 && call.port <= 60999);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET6);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
	expect_equal(socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	expect_equal(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
	expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

	memset(&address, 0, sizeof(address));
	expect(getsockname(fd, (struct sockaddr *) &address, &size) == 0);
	expect_equal(size, socket_address("::", call.port, &expected));
	expect(memcmp(&address, &expected, size) == 0);

	/* tcpi_sacked of a listener is its backlog (tcp_get_info()). */
	expect(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_size) == 0);
	expect_equal(info.tcpi_sacked, 128);
	expect_equal(accept(fd, NULL, NULL), -1);
	expect_equal(errno, EAGAIN);
	reach(fd, "127.0.0.1");
	reach(fd, "::1");
	close(fd);
	expect(open_fds_are(&before, -1));
}

TEST_IN_NETNS(every_port_of_the_range_once_and_then_eaddrinuse)
{
	Ports		taken = {.has = {false}};
	OpenFds		before;
	Call		calls[8];
	Call		call;

	set_port_range(40000, 40007);
	for (int i = 0; i < 8; i++)
	{
		calls[i] = call_setup_listener();
		expect_equal(calls[i].returned, 0);
		expect(40000 <= calls[i].port && calls[i].port <= 40007);
		expect(!taken.has[calls[i].port]);
		taken.has[calls[i].port] = true;
	}
	before = open_fds();
	call = call_setup_listener();
	expect_failed(&call, EADDRINUSE);
	expect(open_fds_are(&before, -1));

	close(calls[3].fd);
	call = call_setup_listener();
	expect_equal(call.port, calls[3].port);
	calls[3].fd = call.fd;
	for (int i = 0; i < 8; i++)
		close(calls[i].fd);
}

TEST(many_calls_leave_nothing_open)
{
	OpenFds		before = open_fds();

	for (int i = 0; i < 5000; i++)
		close(require_listener(NULL).fd);
	expect(open_fds_are(&before, -1));
}

/* What each of several callers got. */
typedef struct Haul
{
	int			ports[PER_CALLER];
	int			fds[PER_CALLER];
} Haul;

static void *
open_haul(void *argument)
{
	Haul	   *haul = argument;

	for (int i = 0; i < PER_CALLER; i++)
	{
		require(setup_listener(&haul->ports[i], &haul->fds[i]) == 0, "%s",
				strerror(errno));
		expect_equal(local_port(haul->fds[i]), haul->ports[i]);
	}
	return NULL;
}

static void
open_haul_in_child(int index, void *haul, void *unused)
{
	(void) index;
	(void) unused;
	open_haul(haul);
	wait_for_all();
	for (int i = 0; i < PER_CALLER; i++)
		close(((Haul *) haul)->fds[i]);
}

static void
expect_each_port_once(const Haul *hauls)
{
	Ports		seen = {.has = {false}};

	for (int i = 0; i < CALLERS * PER_CALLER; i++)
	{
		int			port = hauls[i / PER_CALLER].ports[i % PER_CALLER];

		require(!seen.has[port], "port %d came twice", port);
		seen.has[port] = true;
	}
}

TEST(threads_and_children_call_at_once)
{
	static Haul hauls[CALLERS];
	pthread_t	threads[CALLERS];

	for (int i = 0; i < CALLERS; i++)
		expect(pthread_create(&threads[i], NULL, open_haul, &hauls[i]) == 0);
	for (int i = 0; i < CALLERS; i++)
		expect(pthread_join(threads[i], NULL) == 0);
	expect_each_port_once(hauls);
	for (int i = 0; i < CALLERS * PER_CALLER; i++)
		close(hauls[i / PER_CALLER].fds[i % PER_CALLER]);

	run_at_once(CALLERS, open_haul_in_child, NULL, hauls, sizeof(Haul));
	expect_each_port_once(hauls);
}

static int
setup_listener_only(const IcListenerOptions *options, int *port, int *fd,
					IcListenerReport *report)
{
	(void) options;
	(void) report;
	return setup_listener(port, fd);
}

TEST(outputs_that_cannot_be_written)
{
	static int	(*const calls[]) (const IcListenerOptions *, int *, int *,
								  IcListenerReport *) = {
		setup_listener_only, ic_listener_open_tcp, ic_listener_open_udp
	};
	OpenFds		before = open_fds();

	for (int i = 0; i < 12; i++)
	{
		IcListenerReport report = IC_LISTENER_REPORT_INIT;
		int			port = UNTOUCHED;
		int			fd = UNTOUCHED;
		int		   *ports[] = {NULL, &port, NULL, &port};
		int		   *fds[] = {&fd, NULL, NULL, &port};

		now_doing("call %d, case %d", i / 4, i % 4);
		errno = 0;
		expect_equal(calls[i / 4] (NULL, ports[i % 4], fds[i % 4], &report), -1);
		expect_equal(errno, EINVAL);
		expect_equal(fd, i % 4 == 0 ? -1 : UNTOUCHED);
		expect(port == (i % 4 == 1 ? 0 : UNTOUCHED) ||
			   (i % 4 == 3 && (port == 0 || port == -1)));
		expect(open_fds_are(&before, -1));
		if (i < 4)
			continue;
		expect_equal(report.error, EINVAL);
		expect_equal(report.step, IC_LISTENER_STEP_ARGUMENTS);
		expect_in(report.message, "port and fd");
	}
}


/* Sizes: what is not of the struct is neither read nor written. */

/* Memory that ends where it may no longer be touched. */
static void *
at_the_end_of_memory(size_t size)
{
	long		page = sysconf(_SC_PAGESIZE);
	char	   *pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE,
							 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect(pages != MAP_FAILED);
	expect(mprotect(pages + 2 * page, page, PROT_NONE) == 0);
	return memset(pages + 2 * page - size, 0xee, size);
}

static const uint32_t sizes[] = {
	0, 1, 8, 19, 20, 23, 24, 25, 28, 32, 64, 327, 328, 329, 356, 359, 360, 361,
	368, 424, 4095, 4096, 4097, 65536, INT_MAX, UINT32_MAX
};

/* An older library takes a newer caller's options while they are zero. */
TEST(options_of_any_size)
{
	for (size_t i = 0; i < lengthof(sizes) * 2; i++)
	{
		uint32_t	size = sizes[i / 2];
		bool		good = size >= sizeof(IcListenerOptions) && size <= 4096;
		size_t		room = good ? size : sizeof(size);
		IcListenerOptions *options = at_the_end_of_memory(room);
		Call		call;

		now_doing("%s, size %u", kinds[i % 2]->name, size);
		memset(options, 0, room);
		options->size = size;
		if (good)
			options->address = "127.0.0.1";
		call = open_socket(kinds[i % 2], options);
		expect_equal(call.returned, good ? 0 : -1);
		if (good)
			close(call.fd);
		if (good && size > sizeof(*options))
		{
			((char *) options)[size - 1] = 1;
			call = open_socket(kinds[i % 2], options);
		}
		else if (good)
			continue;
		expect_failed(&call, EINVAL);
		expect_equal(call.report.step, IC_LISTENER_STEP_ARGUMENTS);
		expect_in(call.report.message, "size of the options");
	}
}

TEST(options_are_only_read)
{
	IcListenerOptions *options = at_the_end_of_memory(sizeof(*options));
	long		page = sysconf(_SC_PAGESIZE);
	char	   *start = (char *) (options + 1) - page;

	*options = (IcListenerOptions) IC_LISTENER_OPTIONS_INIT;
	options->address = strcpy(start, "127.0.0.1");
	expect(mprotect(start, page, PROT_READ) == 0);
	close(require_listener(options).fd);
}

typedef struct sockaddr SockAddr;

/* The calls that fill a report, and the census: each fails on an argument. */
static int
call_with_report(int which, void *report)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	int			port;
	int			fd;

	options.backlog = -1;
	switch (which)
	{
		case 0:
			return ic_listener_open_tcp(&options, &port, &fd, report);
		case 1:
			return ic_listener_open_udp(&options, &port, &fd, report);
		case 2:
			return ic_listener_bind(-1, NULL, 0, report);
		case 3:
			return ic_listener_listen(-1, 1, report);
		case 4:
			return ic_listener_connect(-1, NULL, 0, report);
		default:
			return ic_listener_census(&options, report);
	}
}

#define REPORTS 6

TEST(reports_of_any_size)
{
	for (size_t i = 0; i < lengthof(sizes) * REPORTS; i++)
	{
		int			which = i % REPORTS;
		uint32_t	size = sizes[i / REPORTS];
		uint32_t	least = which == REPORTS - 1 ? sizeof(IcListenerCensus) :
			sizeof(IcListenerReport);
		bool		good = size >= least && size <= 4096;
		uint32_t	room = good ? size : sizeof(size);
		unsigned char *bytes = at_the_end_of_memory(room);

		now_doing("call %d, size %u", which, size);
		memcpy(bytes, &size, sizeof(size));
		errno = 0;
		expect_equal(call_with_report(which, bytes), -1);
		expect_equal(memcmp(bytes, &size, sizeof(size)), 0);
		if (!good)
		{
			expect_equal(errno, EINVAL);
			continue;
		}
		expect_equal(((IcListenerReport *) bytes)->error, errno);
		expect_equal(errno, which >= 2 && which <= 4 ? EBADF : EINVAL);
		for (uint32_t at = least; at < size; at++)
			expect_equal(bytes[at], 0);
	}
}

/* A report that cannot be filled: nothing is done at all. */
TEST_IN_NETNS(with_a_report_of_no_size_nothing_is_done)
{
	IcListenerReport report = {.size = 8};
	struct sockaddr_in any = {.sin_family = AF_INET};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	OpenFds		before = open_fds();
	int			port = UNTOUCHED;
	int			opened = UNTOUCHED;

	expect_equal(ic_listener_bind(fd, (SockAddr *) &any, sizeof(any), &report), -1);
	expect_equal(ic_listener_connect(fd, (SockAddr *) &any, sizeof(any), &report), -1);
	expect_equal(ic_listener_listen(fd, 8, &report), -1);
	expect_equal(local_port(fd), 0);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 0);
	expect_equal(ic_listener_open_tcp(NULL, &port, &opened, &report), -1);
	expect(port == 0 && opened == -1);
	expect(open_fds_are(&before, -1));
	close(fd);
}

TEST(the_initializers_are_the_defaults)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	const IcListenerOptions no_options = {.size = sizeof(options)};
	const IcListenerReport no_report = {.size = sizeof(report)};
	const IcListenerCensus no_census = {.size = sizeof(census)};

	expect(memcmp(&options, &no_options, sizeof(options)) == 0);
	expect(memcmp(&report, &no_report, sizeof(report)) == 0);
	expect(memcmp(&census, &no_census, sizeof(census)) == 0);
}

TEST(step_names_and_version)
{
	static const char *const names[] = {
		"none", "arguments", "address", "socket", "setsockopt", "bind",
		"listen", "getsockname", "internal", "connect"
	};
	static const int unknown[] = {-1, lengthof(names), 255, INT_MIN, INT_MAX};
	char		numbers[32];

	for (size_t i = 0; i < lengthof(names); i++)
		expect(strcmp(ic_listener_step_name(i), names[i]) == 0);
	for (size_t i = 0; i < lengthof(unknown); i++)
		expect(strcmp(ic_listener_step_name(unknown[i]), "unknown") == 0);
	snprintf(numbers, sizeof(numbers), "%d.%d.%d", IC_LISTENER_VERSION_MAJOR,
			 IC_LISTENER_VERSION_MINOR, IC_LISTENER_VERSION_PATCH);
	expect(strcmp(ic_listener_version(), IC_LISTENER_VERSION) == 0);
	expect(strcmp(ic_listener_version(), numbers) == 0);
}

int
main(void)
{
	return run_all(
		test(the_socket_is_as_promised),
		test(every_port_of_the_range_once_and_then_eaddrinuse),
		test(many_calls_leave_nothing_open),
		test(threads_and_children_call_at_once),
		test(outputs_that_cannot_be_written),
		test(options_of_any_size),
		test(options_are_only_read),
		test(reports_of_any_size),
		test(with_a_report_of_no_size_nothing_is_done),
		test(the_initializers_are_the_defaults),
		test(step_names_and_version));
}
