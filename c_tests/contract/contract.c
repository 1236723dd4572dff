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

/* (calls.c and options.c have the same of the other calls, and data.) */
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
	expect_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	expect_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	expect_equal(socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	expect_equal(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
	expect_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	expect_equal(backlog_of(fd), 128);
	close(fd);
}

static void *
open_some(void *unused)
{
	int			fds[50];
	int			port;

	for (size_t i = 0; i < lengthof(fds); i++)
	{
		require(setup_listener(&port, &fds[i]) == 0, "%s", strerror(errno));
		expect_equal(local_port(fds[i]), port);
	}
	for (size_t i = 0; i < lengthof(fds); i++)
		close(fds[i]);
	return unused;
}

TEST(threads_call_at_once)
{
	pthread_t	threads[8];

	for (size_t i = 0; i < lengthof(threads); i++)
		expect(pthread_create(&threads[i], NULL, open_some, NULL) == 0);
	for (size_t i = 0; i < lengthof(threads); i++)
		expect(pthread_join(threads[i], NULL) == 0);
}

TEST(outputs_that_cannot_be_written)
{
	OpenFds		before = open_fds();
	int			port = UNTOUCHED;
	int			fd = UNTOUCHED;

	for_each_kind(kind)
	{
		IcListenerReport report = IC_LISTENER_REPORT_INIT;

		port = fd = UNTOUCHED;
		expect_equal(kind->open(NULL, NULL, &fd, &report), -1);
		expect_equal(fd, -1);
		expect_equal(kind->open(NULL, &port, NULL, &report), -1);
		expect_equal(port, 0);
		expect_equal(kind->open(NULL, NULL, NULL, &report), -1);
		expect_equal(kind->open(NULL, &port, &port, &report), -1);
		expect_equal(errno, EINVAL);
		expect(port == 0 || port == -1);
		expect_equal(report.error, EINVAL);
		expect_equal(report.step, IC_LISTENER_STEP_ARGUMENTS);
	}
	expect_equal(setup_listener(&port, NULL), -1);
	expect_equal(setup_listener(NULL, &fd), -1);
	expect_equal(errno, EINVAL);
	expect(open_fds_are(&before, -1));
}

/*
 * Sizes: what is not of the struct is neither read nor written.
 */

/* Memory that ends where it may no longer be touched, and begins a page. */
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
#define SIZES_AROUND(size) \
	{0, 8, (size) - 1, (size), (size) + 1, 4096, 4097, UINT32_MAX}

/*
 * The size is all that is read if it is wrong, and nothing is written. An
 * older library takes a newer caller's options while they are zero.
 */
TEST(options_of_any_size)
{
	static const uint32_t sizes[] = SIZES_AROUND(sizeof(IcListenerOptions));

	for (size_t i = 0; i < lengthof(sizes) * 4; i++)
	{
		const Kind *kind = kinds[i % 2];
		uint32_t	size = sizes[i / 4];
		bool		good = size >= sizeof(IcListenerOptions) && size <= 4096;
		bool		zero = i / 2 % 2;
		size_t		room = good ? size : sizeof(size);
		IcListenerOptions *options = at_the_end_of_memory(room);
		long		page = sysconf(_SC_PAGESIZE);
		Call		call;

		now_doing("%s, size %u, %s", kind->name, size, zero ? "zeros" : "not zeros");
		memset(options, 0, room);
		options->size = size;
		if (good)
		{
			options->address = "127.0.0.1";
			((char *) options)[size - 1] |= !zero;
		}
		expect(mprotect((char *) options + room - page, page, PROT_READ) == 0);
		call = open_socket(kind, options);
		if (good && zero)
		{
			expect_equal(call.returned, 0);
			close(call.fd);
			continue;
		}
		expect_failed(&call, EINVAL);
		expect_equal(call.report.step, IC_LISTENER_STEP_ARGUMENTS);
	}
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

TEST(reports_of_any_size)
{
	static const uint32_t sizes[2][8] = {
		SIZES_AROUND(sizeof(IcListenerReport)), SIZES_AROUND(sizeof(IcListenerCensus))
	};

	for (int i = 0; i < 8 * 7; i++)
	{
		int			which = i % 7;
		uint32_t	least = sizes[which == 6][3];
		uint32_t	size = sizes[which == 6][i / 7];
		bool		good = size >= least && size <= 4096;
		unsigned char *bytes = at_the_end_of_memory(good ? size : sizeof(size));

		now_doing("call %d, size %u", which, size);
		memcpy(bytes, &size, sizeof(size));
		errno = 0;
		expect_equal(call_with_report(which, bytes), -1);
		expect_equal(memcmp(bytes, &size, sizeof(size)), 0);
		expect_equal(errno, good && which >= 2 && which <= 5 ? EBADF : EINVAL);
		if (!good)
			continue;
		expect_equal(((IcListenerReport *) bytes)->error, errno);
		for (uint32_t at = least; at < size; at++)
			expect_equal(bytes[at], 0);
	}
	expect_equal(ic_listener_census(NULL, NULL), -1);
	expect_equal(errno, EINVAL);
}

/* Nothing is done for a report that cannot be filled. */
TEST(a_report_of_no_size)
{
	IcListenerReport report = {.size = 8};
	struct sockaddr_in in = {.sin_family = AF_INET};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	OpenFds		before = open_fds();
	int			port = UNTOUCHED;
	int			opened = UNTOUCHED;

	expect_equal(ic_listener_bind(fd, (struct sockaddr *) &in, sizeof(in), &report), -1);
	expect_equal(local_port(fd), 0);
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
		test(reports_of_any_size),
		test(a_report_of_no_size),
		test(the_initializers_are_the_defaults),
		test(step_names_and_version));
}
