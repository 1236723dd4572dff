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
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"

TEST_IN_NETNS(the_socket_is_as_promised)
{
	OpenFds		before = open_fds();
	int			port;
	int			fd;

	skip_without_ipv6();
	set_bindv6only(true);
	expect_equal(setup_listener(&port, &fd), 0);
	expect(open_fds_are(&before, fd));
	expect(port >= 32768 && port <= 60999);
	expect_equal(local_port(fd), port);
	expect(strcmp(local_address(fd), "::") == 0);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
	expect_equal(socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	expect_equal(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
	expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	expect_equal(backlog_of(fd), 128);
	expect_equal(accept(fd, NULL, NULL), -1);
	expect_equal(errno, EAGAIN);
	reach(fd, "127.0.0.1");
	reach(fd, "::1");
	close(fd);
	expect(open_fds_are(&before, -1));
}

#define CALLERS 8
#define PER_CALLER 50

static void *
open_some(void *sockets)
{
	for (int i = 0; i < PER_CALLER; i++)
	{
		int			port;
		int			fd;

		require(setup_listener(&port, &fd) == 0, "%s", strerror(errno));
		expect_equal(local_port(fd), port);
		((int *) sockets)[i] = fd;
	}
	return NULL;
}

TEST(threads_call_at_once)
{
	int			sockets[CALLERS][PER_CALLER];
	pthread_t	threads[CALLERS];
	Ports		taken = {.has = {false}};

	for (int i = 0; i < CALLERS; i++)
		expect(pthread_create(&threads[i], NULL, open_some, sockets[i]) == 0);
	for (int i = 0; i < CALLERS; i++)
	{
		expect(pthread_join(threads[i], NULL) == 0);
		for (int j = 0; j < PER_CALLER; j++)
		{
			int			port = local_port(sockets[i][j]);

			require(!taken.has[port], "port %d came twice", port);
			taken.has[port] = true;
		}
	}
	for (int i = 0; i < CALLERS * PER_CALLER; i++)
		close(sockets[i / PER_CALLER][i % PER_CALLER]);
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

	for (int i = 0; i < 3; i++)
	{
		IcListenerReport report = IC_LISTENER_REPORT_INIT;
		int			port = UNTOUCHED;
		int			fd = UNTOUCHED;

		now_doing("call %d", i);
		errno = 0;
		expect_equal(calls[i] (NULL, NULL, &fd, &report), -1);
		expect_equal(errno, EINVAL);
		expect_equal(fd, -1);
		expect_equal(calls[i] (NULL, &port, NULL, &report), -1);
		expect_equal(port, 0);
		expect_equal(calls[i] (NULL, NULL, NULL, &report), -1);
		errno = 0;
		expect_equal(calls[i] (NULL, &port, &port, &report), -1);
		expect_equal(errno, EINVAL);
		expect(port == 0 || port == -1);
		expect(open_fds_are(&before, -1));
		if (i == 0)
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

/* Around the size of a struct, and the largest that a caller may have. */
static uint32_t
size_to_try(int index, uint32_t size_of_struct)
{
	const uint32_t sizes[] = {
		0, 8, size_of_struct - 1, size_of_struct, size_of_struct + 1, 4096, 4097, UINT32_MAX
	};

	return sizes[index];
}

#define SIZES_TO_TRY 8

/* An older library takes a newer caller's options while they are zero. */
TEST(options_of_any_size)
{
	for (int i = 0; i < SIZES_TO_TRY * 2; i++)
	{
		uint32_t	size = size_to_try(i / 2, sizeof(IcListenerOptions));
		bool		good = size >= sizeof(IcListenerOptions) && size <= 4096;
		size_t		room = good ? size : sizeof(size);
		IcListenerOptions *options = at_the_end_of_memory(room);
		Call		call;

		now_doing("%s, size %u", kinds[i % 2]->name, size);
		memset(options, 0, room);
		options->size = size;
		if (good)
		{
			options->address = "127.0.0.1";
			call = open_socket(kinds[i % 2], options);
			expect_equal(call.returned, 0);
			close(call.fd);
			((char *) options)[size - 1] = 1;
		}
		call = open_socket(kinds[i % 2], options);
		expect_failed(&call, EINVAL);
		expect_equal(call.report.step, IC_LISTENER_STEP_ARGUMENTS);
		if (size != sizeof(IcListenerOptions))
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
		case 5:
			return ic_listener_begin_connect(-1, NULL, 0, report);
		default:
			return ic_listener_census(&options, report);
	}
}

#define REPORTS 7

TEST(reports_of_any_size)
{
	for (int i = 0; i < SIZES_TO_TRY * REPORTS; i++)
	{
		int			which = i % REPORTS;
		uint32_t	least = which == REPORTS - 1 ? sizeof(IcListenerCensus) :
			sizeof(IcListenerReport);
		uint32_t	size = size_to_try(i / REPORTS, least);
		bool		good = size >= least && size <= 4096;
		unsigned char *bytes = at_the_end_of_memory(good ? size : sizeof(size));

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
		expect_equal(errno, which >= 2 && which <= 5 ? EBADF : EINVAL);
		for (uint32_t at = least; at < size; at++)
			expect_equal(bytes[at], 0);
	}
	expect_equal(ic_listener_census(NULL, NULL), -1);
	expect_equal(errno, EINVAL);
}

/* A report that cannot be filled: nothing is done at all. */
TEST_IN_NETNS(with_a_report_of_no_size_nothing_is_done)
{
	IcListenerReport report = {.size = 8};
	struct sockaddr_in in = {.sin_family = AF_INET};
	const struct sockaddr *any = (struct sockaddr *) &in;
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	OpenFds		before = open_fds();
	int			port = UNTOUCHED;
	int			opened = UNTOUCHED;

	expect_equal(ic_listener_bind(fd, any, sizeof(in), &report), -1);
	expect_equal(ic_listener_connect(fd, any, sizeof(in), &report), -1);
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

	for (size_t i = 0; i < lengthof(names); i++)
		expect(strcmp(ic_listener_step_name(i), names[i]) == 0);
	for (size_t i = 0; i < lengthof(unknown); i++)
		expect(strcmp(ic_listener_step_name(unknown[i]), "unknown") == 0);
	expect(strcmp(ic_listener_version(), IC_LISTENER_VERSION) == 0);
}

int
main(void)
{
	return run_all(
		test(the_socket_is_as_promised),
		test(threads_call_at_once),
		test(outputs_that_cannot_be_written),
		test(options_of_any_size),
		test(options_are_only_read),
		test(reports_of_any_size),
		test(with_a_report_of_no_size_nothing_is_done),
		test(the_initializers_are_the_defaults),
		test(step_names_and_version));
}
