/*
 * layout.c
 *		The binary interface in numbers. A caller that was compiled against
 *		an older header has them in its code: a change here is another
 *		interface and another SONAME.
 *
 * This file is also C++ (see header.sh), hence static_assert() and not its
 * C11 spelling.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ic_listener.h"

#define WORD sizeof(size_t)

#define OFFSET_IS(type, member, offset) \
	static_assert(offsetof(type, member) == (offset), #type "." #member)
#define SIZE_IS(type, member, bytes) \
	static_assert(sizeof(((type *) 0)->member) == (bytes), \
				  "size of " #type "." #member)
#define VALUE_IS(name, value) \
	static_assert((name) == (value), #name)

/* Pointers and sizes are of one width. */
static_assert(sizeof(void *) == WORD, "void *");
static_assert(sizeof(int) == 4, "int");

/* If the compiler made an enum a char, everything behind it would move. */
static_assert(sizeof(IcListenerStep) == sizeof(int), "IcListenerStep");
static_assert(sizeof(IcListenerPortOrigin) == sizeof(int),
			  "IcListenerPortOrigin");
static_assert(sizeof(IcListenerCensusSource) == sizeof(int),
			  "IcListenerCensusSource");

VALUE_IS(IC_LISTENER_STEP_NONE, 0);
VALUE_IS(IC_LISTENER_STEP_ARGUMENTS, 1);
VALUE_IS(IC_LISTENER_STEP_ADDRESS, 2);
VALUE_IS(IC_LISTENER_STEP_SOCKET, 3);
VALUE_IS(IC_LISTENER_STEP_SETSOCKOPT, 4);
VALUE_IS(IC_LISTENER_STEP_BIND, 5);
VALUE_IS(IC_LISTENER_STEP_LISTEN, 6);
VALUE_IS(IC_LISTENER_STEP_GETSOCKNAME, 7);
VALUE_IS(IC_LISTENER_STEP_INTERNAL, 8);
VALUE_IS(IC_LISTENER_STEP_CONNECT, 9);

VALUE_IS(IC_LISTENER_PORT_ORIGIN_NONE, 0);
VALUE_IS(IC_LISTENER_PORT_ORIGIN_FREE, 1);
VALUE_IS(IC_LISTENER_PORT_ORIGIN_REUSED, 2);
VALUE_IS(IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL, 3);

VALUE_IS(IC_LISTENER_CENSUS_SOURCE_NONE, 0);
VALUE_IS(IC_LISTENER_CENSUS_SOURCE_NETLINK, 1);
VALUE_IS(IC_LISTENER_CENSUS_SOURCE_PROC, 2);

VALUE_IS(IC_LISTENER_MESSAGE_SIZE, 256);

OFFSET_IS(IcListenerOptions, size, 0);
OFFSET_IS(IcListenerOptions, address, WORD);
OFFSET_IS(IcListenerOptions, backlog, 2 * WORD);
OFFSET_IS(IcListenerOptions, port_min, 2 * WORD + 4);
OFFSET_IS(IcListenerOptions, port_max, 2 * WORD + 8);
OFFSET_IS(IcListenerOptions, listen_retries, 2 * WORD + 12);
static_assert(sizeof(IcListenerOptions) == 2 * WORD + 16, "IcListenerOptions");

SIZE_IS(IcListenerOptions, size, WORD);
SIZE_IS(IcListenerOptions, address, WORD);
SIZE_IS(IcListenerOptions, backlog, 4);
SIZE_IS(IcListenerOptions, port_min, 4);
SIZE_IS(IcListenerOptions, port_max, 4);
SIZE_IS(IcListenerOptions, listen_retries, 4);

/* Where 64-bit numbers are aligned to 8 bytes on 32-bit hosts (ARM), so is it. */
struct AlignedLikeElapsed
{
	char		before[WORD + 40];
	uint64_t	elapsed_ns;
};

#define ELAPSED offsetof(struct AlignedLikeElapsed, elapsed_ns)

OFFSET_IS(IcListenerReport, size, 0);
OFFSET_IS(IcListenerReport, error, WORD);
OFFSET_IS(IcListenerReport, step, WORD + 4);
OFFSET_IS(IcListenerReport, family, WORD + 8);
OFFSET_IS(IcListenerReport, origin, WORD + 12);
OFFSET_IS(IcListenerReport, port_min, WORD + 16);
OFFSET_IS(IcListenerReport, port_max, WORD + 20);
OFFSET_IS(IcListenerReport, ports_tried, WORD + 24);
OFFSET_IS(IcListenerReport, ports_in_use, WORD + 28);
OFFSET_IS(IcListenerReport, ports_forbidden, WORD + 32);
OFFSET_IS(IcListenerReport, listens_lost, WORD + 36);
OFFSET_IS(IcListenerReport, elapsed_ns, ELAPSED);
OFFSET_IS(IcListenerReport, message, ELAPSED + 8);
OFFSET_IS(IcListenerReport, census_source, ELAPSED + 264);
OFFSET_IS(IcListenerReport, census_complete, ELAPSED + 268);
OFFSET_IS(IcListenerReport, ports_listening, ELAPSED + 272);
OFFSET_IS(IcListenerReport, ports_bound, ELAPSED + 276);
OFFSET_IS(IcListenerReport, ports_connected, ELAPSED + 280);
OFFSET_IS(IcListenerReport, ports_closing, ELAPSED + 284);
OFFSET_IS(IcListenerReport, ports_time_wait, ELAPSED + 288);
OFFSET_IS(IcListenerReport, ports_unknown, ELAPSED + 292);
OFFSET_IS(IcListenerReport, time_wait_next_s, ELAPSED + 296);
OFFSET_IS(IcListenerReport, time_wait_last_s, ELAPSED + 300);
OFFSET_IS(IcListenerReport, connections_taken, ELAPSED + 304);
OFFSET_IS(IcListenerReport, ports_reserved, ELAPSED + 308);
static_assert(sizeof(IcListenerReport) == ELAPSED + 312, "IcListenerReport");

struct AlignedLikeCensusElapsed
{
	char		before[WORD + 56];
	uint64_t	elapsed_ns;
};

#define CENSUS_ELAPSED offsetof(struct AlignedLikeCensusElapsed, elapsed_ns)

OFFSET_IS(IcListenerCensus, size, 0);
OFFSET_IS(IcListenerCensus, error, WORD);
OFFSET_IS(IcListenerCensus, source, WORD + 4);
OFFSET_IS(IcListenerCensus, complete, WORD + 8);
OFFSET_IS(IcListenerCensus, port_min, WORD + 12);
OFFSET_IS(IcListenerCensus, port_max, WORD + 16);
OFFSET_IS(IcListenerCensus, ports, WORD + 20);
OFFSET_IS(IcListenerCensus, ports_listening, WORD + 24);
OFFSET_IS(IcListenerCensus, ports_bound, WORD + 28);
OFFSET_IS(IcListenerCensus, ports_connected, WORD + 32);
OFFSET_IS(IcListenerCensus, ports_closing, WORD + 36);
OFFSET_IS(IcListenerCensus, ports_time_wait, WORD + 40);
OFFSET_IS(IcListenerCensus, ports_unheld, WORD + 44);
OFFSET_IS(IcListenerCensus, time_wait_next_s, WORD + 48);
OFFSET_IS(IcListenerCensus, time_wait_last_s, WORD + 52);
OFFSET_IS(IcListenerCensus, elapsed_ns, CENSUS_ELAPSED);
OFFSET_IS(IcListenerCensus, message, CENSUS_ELAPSED + 8);
static_assert(sizeof(IcListenerCensus) == CENSUS_ELAPSED + 8 + 256,
			  "IcListenerCensus");

SIZE_IS(IcListenerReport, size, WORD);
SIZE_IS(IcListenerReport, error, 4);
SIZE_IS(IcListenerReport, step, 4);
SIZE_IS(IcListenerReport, family, 4);
SIZE_IS(IcListenerReport, origin, 4);
SIZE_IS(IcListenerReport, port_min, 4);
SIZE_IS(IcListenerReport, port_max, 4);
SIZE_IS(IcListenerReport, ports_tried, 4);
SIZE_IS(IcListenerReport, ports_in_use, 4);
SIZE_IS(IcListenerReport, ports_forbidden, 4);
SIZE_IS(IcListenerReport, listens_lost, 4);
SIZE_IS(IcListenerReport, elapsed_ns, 8);
SIZE_IS(IcListenerReport, message, 256);

/* Pointers of exactly these types: a different prototype does not compile. */
static int	(*const setup) (int *, int *) = setup_listener;
static int	(*const open_tcp) (const IcListenerOptions *, int *, int *,
							   IcListenerReport *) = ic_listener_open_tcp;
static int	(*const open_udp) (const IcListenerOptions *, int *, int *,
							   IcListenerReport *) = ic_listener_open_udp;
static int	(*const share_port) (int) = ic_listener_share_port;
static int	(*const bind_port) (int, const struct sockaddr *, socklen_t,
								IcListenerReport *) = ic_listener_bind;
static int	(*const listen_on) (int, int, IcListenerReport *) =
ic_listener_listen;
static int	(*const connect_from) (int, const struct sockaddr *, socklen_t,
								   IcListenerReport *) = ic_listener_connect;
static int	(*const count_holders) (const IcListenerOptions *,
									IcListenerCensus *) = ic_listener_census;
static const char *(*const step_name) (int) = ic_listener_step_name;
static const char *(*const version) (void) = ic_listener_version;

/* The linked library goes by the sizes that the compiler found. */
static void
sizes_are_the_library_s(void **state)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;
	int			port;
	int			fd;

	(void) state;
	options.port_min = INT_MIN;
	assert_int_equal(open_tcp(&options, &port, &fd, &report), -1);
	assert_non_null(strstr(report.message, "port_min"));
	assert_int_equal(open_udp(&options, &port, &fd, &report), -1);
	assert_non_null(strstr(report.message, "port_min"));
	assert_string_equal(step_name(report.step), "arguments");
	assert_int_equal(setup(NULL, NULL), -1);
	assert_int_equal(share_port(-1), -1);
	report.message[0] = '\0';
	assert_int_equal(bind_port(-1, NULL, 0, &report), -1);
	assert_int_equal(report.error, EBADF);
	assert_int_equal(listen_on(-1, 0, &report), -1);
	assert_int_equal(connect_from(-1, NULL, 0, &report), -1);
	assert_string_equal(step_name(report.step), "connect");
	assert_string_equal(step_name(IC_LISTENER_STEP_CONNECT), "connect");
	assert_int_equal(count_holders(&options, &census), -1);
	assert_non_null(strstr(census.message, "port_min"));
	assert_string_equal(version(), IC_LISTENER_VERSION);
}

/* IC_LISTENER_OPTIONS_INIT and the like, member by member. */
static void
initializers_are_the_defaults(void **state)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	(void) state;
	assert_int_equal(options.size, sizeof(options));
	assert_null(options.address);
	assert_int_equal(options.backlog, 0);
	assert_int_equal(options.port_min, 0);
	assert_int_equal(options.port_max, 0);
	assert_int_equal(options.listen_retries, 0);

	assert_int_equal(report.size, sizeof(report));
	assert_int_equal(report.error, 0);
	assert_int_equal(report.step, IC_LISTENER_STEP_NONE);
	assert_int_equal(report.family, 0);
	assert_int_equal(report.origin, IC_LISTENER_PORT_ORIGIN_NONE);
	assert_int_equal(report.port_min, 0);
	assert_int_equal(report.port_max, 0);
	assert_int_equal(report.ports_tried, 0);
	assert_int_equal(report.ports_in_use, 0);
	assert_int_equal(report.ports_forbidden, 0);
	assert_int_equal(report.listens_lost, 0);
	assert_int_equal(report.elapsed_ns, 0);
	for (size_t i = 0; i < sizeof(report.message); i++)
		assert_int_equal(report.message[i], '\0');
	assert_int_equal(report.census_source, IC_LISTENER_CENSUS_SOURCE_NONE);
	assert_int_equal(report.census_complete, 0);
	assert_int_equal(report.ports_listening, 0);
	assert_int_equal(report.ports_bound, 0);
	assert_int_equal(report.ports_connected, 0);
	assert_int_equal(report.ports_closing, 0);
	assert_int_equal(report.ports_time_wait, 0);
	assert_int_equal(report.ports_unknown, 0);
	assert_int_equal(report.time_wait_next_s, 0);
	assert_int_equal(report.time_wait_last_s, 0);

	assert_int_equal(census.size, sizeof(census));
	assert_int_equal(census.source, IC_LISTENER_CENSUS_SOURCE_NONE);
	for (size_t i = sizeof(census.size); i < sizeof(census); i++)
		assert_int_equal(((const char *) &census)[i], '\0');
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_the_library_s),
		cmocka_unit_test(initializers_are_the_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
