/*
 * conformance.c
 *		The contract of setup_listener(), line by line, as the kernel sees it.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "ic_listener.h"
#include "netns.h"
#include "sockets.h"
#include "support.h"

#define LISTENERS_AT_ONCE 1000
#define CALLS_IN_A_ROW 10000
#define CALLERS 8
#define LISTENERS_PER_CALLER 50

/* What no call returns, to see what has been written. */
#define UNTOUCHED 424242

/* Whether this host has IPv6: not a matter of addresses, but of sockets. */
static bool
host_has_ipv6(void)
{
	int			fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static int
get_listener(int *port)
{
	int			fd = UNTOUCHED;

	*port = UNTOUCHED;
	if (setup_listener(port, &fd) != 0)
		fail_msg("setup_listener: %s", strerror(errno));
	return fd;
}

/* A whole connection through the listener. Returns NULL, or what failed. */
static const char *
exchange(int listener, int port, const char *host)
{
	static const char question[] = "who has segment 3?";
	static const char answer[] = "port 6002 has";
	struct sockaddr_storage address;
	socklen_t	size = socket_address(host, port, &address);
	struct pollfd ready = {.fd = listener,.events = POLLIN};
	char		got[64];
	const char *failed = NULL;
	int			server = -1;
	int			client = socket(address.ss_family, SOCK_STREAM, 0);

	if (client < 0)
		return "socket";
	if (connect(client, (struct sockaddr *) &address, size) != 0)
		failed = "connect";
	else if (poll(&ready, 1, 10000) != 1)
		failed = "poll";
	else if ((server = accept(listener, NULL, NULL)) < 0)
		failed = "accept";
	else if (send(client, question, sizeof(question), 0) != sizeof(question) ||
			 recv(server, got, sizeof(question), MSG_WAITALL) !=
			 sizeof(question) || strcmp(got, question) != 0)
		failed = "caller to listener";
	else if (send(server, answer, sizeof(answer), 0) != sizeof(answer) ||
			 recv(client, got, sizeof(answer), MSG_WAITALL) !=
			 sizeof(answer) || strcmp(got, answer) != 0)
		failed = "listener to caller";
	if (server >= 0)
		close(server);
	close(client);
	return failed;
}

/* Marks a port; false when it has been marked before. */
static bool
mark(uint8_t *seen, int port)
{
	if (port < 1 || port > 65535 || seen[port])
		return false;
	seen[port] = 1;
	return true;
}

/* A setup_listener() that has to fail in that way, and to leave no trace. */
static void
assert_fails(int *port, int *fd, int error)
{
	OpenFds		before = open_fds();
	int			result;
	int			seen_errno;

	errno = 0;
	result = setup_listener(port, fd);
	seen_errno = errno;

	assert_int_equal(result, -1);
	assert_int_equal(seen_errno, error);
	assert_true(open_fds_are(&before, -1));
}

static void
the_socket_is_as_promised(void **state)
{
	int			family = host_has_ipv6() ? AF_INET6 : AF_INET;
	const char *wildcard = family == AF_INET6 ? "::" : "0.0.0.0";
	struct sockaddr_storage expected;
	struct sockaddr_storage address;
	socklen_t	size = sizeof(address);
	OpenFds		before = open_fds();
	int			port;
	int			fd = get_listener(&port);

	(void) state;
	assert_true(open_fds_are(&before, fd));
	assert_in_range(port, 1, 65535);

	assert_int_equal(socket_option(fd, SOL_SOCKET, SO_DOMAIN), family);
	assert_int_equal(socket_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	assert_int_equal(socket_option(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	assert_int_equal(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	assert_int_equal(socket_option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
	assert_int_equal(socket_option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
	if (family == AF_INET6)
		assert_int_equal(socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 0);
	assert_int_equal(fcntl(fd, F_GETFL), O_RDWR | O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);

	memset(&address, 0, sizeof(address));
	assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &size), 0);
	assert_int_equal(size, socket_address(wildcard, port, &expected));
	assert_memory_equal(&address, &expected, size);

	assert_int_equal(accept(fd, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);

	assert_int_equal(close(fd), 0);
	assert_true(open_fds_are(&before, -1));
}

/*
 * On a listening socket, tcpi_sacked is the backlog and tcpi_unacked what
 * stands in it (tcp_get_info() in net/ipv4/tcp.c).
 */
static void
the_backlog_is_128(void **state)
{
	struct tcp_info info;
	socklen_t	size = sizeof(info);
	long		somaxconn;
	int			port;
	int			fd = get_listener(&port);

	(void) state;
	assert_true(proc_numbers("/proc/sys/net/core/somaxconn", 1, &somaxconn));
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
	assert_int_equal(info.tcpi_sacked, somaxconn < 128 ? somaxconn : 128);
	assert_int_equal(info.tcpi_unacked, 0);
	close(fd);
}

static void
the_port_is_of_the_ephemeral_range(void **state)
{
	long		range[2];

	(void) state;
	assert_true(proc_numbers("/proc/sys/net/ipv4/ip_local_port_range", 2,
							 range));
	for (int i = 0; i < 100; i++)
	{
		int			port;
		int			fd = get_listener(&port);

		assert_in_range(port, range[0], range[1]);
		close(fd);
	}
}

static void
nobody_else_can_bind_the_port(void **state)
{
	static const char *const hosts[] = {"::", "::1", "0.0.0.0", "127.0.0.1"};
	int			port;
	int			fd = get_listener(&port);

	(void) state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
	{
		struct sockaddr_storage address;
		socklen_t	size = socket_address(hosts[i], port, &address);
		int			rival = socket(address.ss_family, SOCK_STREAM, 0);
		int			on = 1;
		int			result;
		int			error;

		if (rival < 0 && address.ss_family == AF_INET6)
			continue;
		setsockopt(rival, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		result = bind(rival, (struct sockaddr *) &address, size);
		error = errno;
		close(rival);

		/* A host whose ::1 is switched off has no such address to bind. */
		if (result == -1 && error == EADDRNOTAVAIL &&
			strcmp(hosts[i], "::1") == 0)
			continue;
		if (result != -1 || error != EADDRINUSE)
			fail_msg("bind to %s: %d, errno %d", hosts[i], result, error);
	}
	close(fd);
}

static void
data_goes_both_ways_over_ipv4(void **state)
{
	OpenFds		before = open_fds();
	int			port;
	int			fd = get_listener(&port);
	const char *failed = exchange(fd, port, "127.0.0.1");

	(void) state;
	if (failed != NULL)
		fail_msg("%s: %s", failed, strerror(errno));
	close(fd);
	assert_true(open_fds_are(&before, -1));
}

static void
data_goes_both_ways_over_ipv6(void **state)
{
	OpenFds		before = open_fds();
	int			port;
	int			fd = get_listener(&port);
	const char *failed = exchange(fd, port, "::1");
	int			error = errno;

	(void) state;
	close(fd);
	if (failed != NULL && (error == EADDRNOTAVAIL || error == EAFNOSUPPORT))
	{
		print_message("# SKIP this host has no ::1: sysctl "
					  "net.ipv6.conf.lo.disable_ipv6=0 brings it back\n");
		skip();
	}
	if (failed != NULL)
		fail_msg("%s: %s", failed, strerror(error));
	assert_true(open_fds_are(&before, -1));
}

static void
no_port_twice_among_1000_listeners(void **state)
{
	uint8_t		seen[65536] = {0};
	int			fds[LISTENERS_AT_ONCE];
	OpenFds		before = open_fds();

	(void) state;
	for (int i = 0; i < LISTENERS_AT_ONCE; i++)
	{
		int			port;

		fds[i] = get_listener(&port);
		if (!mark(seen, port))
			fail_msg("port %d came twice", port);
		assert_int_equal(local_port(fds[i]), port);
		assert_int_equal(socket_option(fds[i], SOL_SOCKET, SO_ACCEPTCONN), 1);
	}
	for (int i = 0; i < LISTENERS_AT_ONCE; i++)
		assert_int_equal(close(fds[i]), 0);
	assert_true(open_fds_are(&before, -1));
}

static void
many_calls_leave_nothing_open(void **state)
{
	OpenFds		before = open_fds();

	(void) state;
	for (int i = 0; i < CALLS_IN_A_ROW; i++)
	{
		int			port;

		close(get_listener(&port));
	}
	assert_true(open_fds_are(&before, -1));
}

/* What each of several callers got. */
typedef struct Haul
{
	int			error;
	int			ports[LISTENERS_PER_CALLER];
	int			fds[LISTENERS_PER_CALLER];
} Haul;

static void
open_haul(Haul *haul)
{
	for (int i = 0; i < LISTENERS_PER_CALLER; i++)
	{
		if (setup_listener(&haul->ports[i], &haul->fds[i]) != 0)
		{
			haul->error = errno;
			return;
		}
		if (local_port(haul->fds[i]) != haul->ports[i])
			haul->error = EBADMSG;
	}
}

static void
close_haul(const Haul *haul)
{
	for (int i = 0; i < LISTENERS_PER_CALLER; i++)
		close(haul->fds[i]);
}

/* Returns a port that came twice, or 0. */
static int
port_seen_twice(const Haul *hauls)
{
	uint8_t		seen[65536] = {0};

	for (int caller = 0; caller < CALLERS; caller++)
	{
		for (int i = 0; i < LISTENERS_PER_CALLER; i++)
		{
			if (!mark(seen, hauls[caller].ports[i]))
				return hauls[caller].ports[i];
		}
	}
	return 0;
}

static pthread_barrier_t start;

static void *
thread_main(void *haul)
{
	pthread_barrier_wait(&start);
	open_haul(haul);
	return NULL;
}

static void
eight_threads_at_once(void **state)
{
	static Haul hauls[CALLERS];
	pthread_t	threads[CALLERS];
	OpenFds		before = open_fds();

	(void) state;
	assert_int_equal(pthread_barrier_init(&start, NULL, CALLERS), 0);
	for (int i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, thread_main,
										&hauls[i]), 0);
	for (int i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	pthread_barrier_destroy(&start);
	for (int i = 0; i < CALLERS; i++)
		assert_int_equal(hauls[i].error, 0);
	assert_int_equal(port_seen_twice(hauls), 0);
	for (int i = 0; i < CALLERS; i++)
		close_haul(&hauls[i]);
	assert_true(open_fds_are(&before, -1));
}

static void
open_haul_in_child(int index, void *haul, void *argument)
{
	(void) index;
	(void) argument;
	open_haul(haul);
	wait_for_all();
	close_haul(haul);
}

static void
run_eight_children(void *argument)
{
	static Haul hauls[CALLERS];

	(void) argument;
	run_at_once(CALLERS, open_haul_in_child, NULL, hauls, sizeof(Haul));
	for (int i = 0; i < CALLERS; i++)
		require(hauls[i].error == 0, "child %d: %s", i,
				strerror(hauls[i].error));
	require(port_seen_twice(hauls) == 0, "port %d came twice",
			port_seen_twice(hauls));
}

static void
eight_children_at_once(void **state)
{
	(void) state;
	assert_int_equal(in_child(run_eight_children, NULL), 0);
}

static void
null_pointers_are_refused(void **state)
{
	int			port = UNTOUCHED;
	int			fd = UNTOUCHED;

	(void) state;
	assert_fails(NULL, &fd, EINVAL);
	assert_int_equal(fd, -1);
	assert_fails(&port, NULL, EINVAL);
	assert_int_equal(port, 0);
	assert_fails(NULL, NULL, EINVAL);
}

/* Which of the two values it holds afterwards is not promised. */
static void
one_pointer_for_both_is_refused(void **state)
{
	int			both = UNTOUCHED;

	(void) state;
	assert_fails(&both, &both, EINVAL);
	assert_true(both == 0 || both == -1);
}

/*
 * The way PostgreSQL's %m works: errno is read after the arguments of the
 * report have been put together.
 */
static void
errno_is_right_when_it_is_formatted(void **state)
{
	char		line[128];
	int			port;

	(void) state;
	errno = ENOTTY;
	assert_int_equal(setup_listener(&port, NULL), -1);
	snprintf(line, sizeof(line), "listener: %m");
	assert_string_equal(line, "listener: Invalid argument");
}

static void
require_dual_stack(void *argument)
{
	const char *failed;
	int			plain = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			port;
	int			fd;

	(void) argument;
	if (plain < 0)
		skip_child("this kernel has no IPv6");
	set_sysctl("net.ipv6.bindv6only", "1");
	close(plain);
	plain = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(socket_option(plain, IPPROTO_IPV6, IPV6_V6ONLY) == 1,
			"bindv6only does not make sockets IPv6 only");
	close(plain);

	require(setup_listener(&port, &fd) == 0, "%s", strerror(errno));
	require(socket_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0,
			"IPV6_V6ONLY is on");
	failed = exchange(fd, port, "127.0.0.1");
	require(failed == NULL, "over IPv4: %s: %s", failed, strerror(errno));
	failed = exchange(fd, port, "::1");
	require(failed == NULL, "over IPv6: %s: %s", failed, strerror(errno));
	close(fd);
}

static void
bindv6only_makes_no_difference(void **state)
{
	(void) state;
	assert_passes_in_netns(require_dual_stack, NULL);
}

static void
require_ipv4_without_ipv6_addresses(void *argument)
{
	const char *failed;
	int			port;
	int			fd;

	(void) argument;
	if (!write_sysctl("net.ipv6.conf.all.disable_ipv6", "1"))
		skip_child("this kernel has no IPv6");
	require(setup_listener(&port, &fd) == 0, "%s", strerror(errno));
	failed = exchange(fd, port, "127.0.0.1");
	require(failed == NULL, "%s: %s", failed, strerror(errno));
	close(fd);
}

static void
a_host_with_ipv6_switched_off_gets_ipv4(void **state)
{
	(void) state;
	assert_passes_in_netns(require_ipv4_without_ipv6_addresses, NULL);
}

#define RANGE_MIN 40000
#define RANGE_MAX 40007
#define RANGE_PORTS (RANGE_MAX - RANGE_MIN + 1)

static void
require_eaddrinuse_when_full(void *argument)
{
	uint8_t		seen[65536] = {0};
	int			fds[RANGE_PORTS];
	int			ports[RANGE_PORTS];
	OpenFds		before;
	int			port = UNTOUCHED;
	int			fd = UNTOUCHED;
	int			result;
	int			error;

	(void) argument;
	set_port_range(RANGE_MIN, RANGE_MAX);
	for (int i = 0; i < RANGE_PORTS; i++)
	{
		require(setup_listener(&ports[i], &fds[i]) == 0, "%d of %d: %s", i,
				RANGE_PORTS, strerror(errno));
		require(ports[i] >= RANGE_MIN && ports[i] <= RANGE_MAX &&
				mark(seen, ports[i]), "port %d", ports[i]);
	}
	before = open_fds();
	errno = 0;
	result = setup_listener(&port, &fd);
	error = errno;
	require(result == -1 && error == EADDRINUSE && port == 0 && fd == -1,
			"returned %d, errno %d, port %d, fd %d", result, error, port, fd);
	require(open_fds_are(&before, -1), "an fd leaked");

	close(fds[3]);
	require(setup_listener(&port, &fds[3]) == 0, "%s", strerror(errno));
	require(port == ports[3], "port %d, but %d was free", port, ports[3]);
	for (int i = 0; i < RANGE_PORTS; i++)
		close(fds[i]);
}

static void
a_full_range_is_eaddrinuse(void **state)
{
	(void) state;
	assert_passes_in_netns(require_eaddrinuse_when_full, NULL);
}

/*
 * Every fd below the limit is in use, so that this process cannot even look
 * into /proc; the limit goes up again for the look at what is open.
 */
static void
require_emfile(void *argument)
{
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	struct rlimit normal;
	struct rlimit low;
	OpenFds		before;
	int			filler[64];
	int			count = 0;
	int			port = UNTOUCHED;
	int			fd = UNTOUCHED;
	int			result;
	int			error;

	(void) argument;
	getrlimit(RLIMIT_NOFILE, &normal);
	low = normal;
	low.rlim_cur = 64;
	require(setrlimit(RLIMIT_NOFILE, &low) == 0, "setrlimit");
	while (count < 64 && (filler[count] = dup(STDERR_FILENO)) >= 0)
		count++;
	require(count > 0 && count < 64 && errno == EMFILE, "%d fds, errno %d",
			count, errno);

	setrlimit(RLIMIT_NOFILE, &normal);
	before = open_fds();
	setrlimit(RLIMIT_NOFILE, &low);

	/* No fd at all. */
	errno = 0;
	result = setup_listener(&port, &fd);
	error = errno;
	require(result == -1 && error == EMFILE && port == 0 && fd == -1,
			"returned %d, errno %d, port %d, fd %d", result, error, port, fd);
	errno = 0;
	result = ic_listener_open_tcp(NULL, &port, &fd, &report);
	error = errno;
	require(result == -1 && error == EMFILE && report.error == EMFILE &&
			report.step == IC_LISTENER_STEP_SOCKET,
			"returned %d, errno %d, report %d, step %d", result, error,
			report.error, report.step);

	/* Looking for an interface takes an fd, too. */
	options.address = "fe80::1%lo";
	errno = 0;
	result = ic_listener_open_tcp(&options, &port, &fd, &report);
	error = errno;
	require(result == -1 && error == EMFILE &&
			report.step == IC_LISTENER_STEP_SOCKET,
			"returned %d, errno %d, step %d", result, error, report.step);
	setrlimit(RLIMIT_NOFILE, &normal);
	require(open_fds_are(&before, -1), "an fd leaked");
	setrlimit(RLIMIT_NOFILE, &low);

	/* One fd: the files of /proc need it one after the other, then we do. */
	close(filler[--count]);
	require(ic_listener_open_tcp(NULL, &port, &fd, &report) == 0,
			"one fd left: %s", strerror(errno));
	require(fd == filler[count], "fd %d, but %d was free", fd, filler[count]);
	require(report.port_min != 0, "the range was not read");
	require(socket_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 &&
			local_port(fd) == port, "fd %d does not listen on %d", fd, port);
	close(fd);
	while (count > 0)
		close(filler[--count]);
}

static void
no_fd_left_is_emfile(void **state)
{
	(void) state;
	assert_int_equal(in_child(require_emfile, NULL), 0);
}

/*
 * Without CAP_NET_BIND_SERVICE nobody may bind a port below 1024, where
 * ip_unprivileged_port_start stands in a new network namespace. The kernel
 * does not let the ephemeral range begin below it, hence the named range.
 */
static void
drop_privileges(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

	/* Not to be had in a user namespace that maps one user only. */
	if (setresgid(65534, 65534, 65534) != 0 ||
		setresuid(65534, 65534, 65534) != 0)
		errno = 0;
	memset(none, 0, sizeof(none));
	require(syscall(SYS_capset, &header, none) == 0, "capset: %s",
			strerror(errno));
}

static void
require_eacces(void *argument)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerReport report = IC_LISTENER_REPORT_INIT;
	OpenFds		before = open_fds();
	int			port = UNTOUCHED;
	int			fd = UNTOUCHED;
	int			result;
	int			error;

	(void) argument;
	drop_privileges();
	options.port_min = 500;
	options.port_max = 1023;
	result = ic_listener_open_tcp(&options, &port, &fd, &report);
	error = errno;
	require(result == -1 && error == EACCES && port == 0 && fd == -1,
			"returned %d, errno %d, port %d, fd %d", result, error, port, fd);
	require(report.error == EACCES && report.step == IC_LISTENER_STEP_BIND &&
			report.ports_tried == 524 && report.ports_forbidden == 524 &&
			report.ports_in_use == 0,
			"error %d, step %d, %u tried, %u forbidden, %u in use",
			report.error, report.step, report.ports_tried,
			report.ports_forbidden, report.ports_in_use);
	require(open_fds_are(&before, -1), "an fd leaked");

	/* The ports that need the privilege are passed over. */
	options.port_max = 1024;
	require(ic_listener_open_tcp(&options, &port, &fd, &report) == 0, "%s",
			strerror(errno));
	require(port == 1024, "port %d", port);
	close(fd);
}

static void
no_privilege_is_eacces(void **state)
{
	(void) state;
	assert_passes_in_netns(require_eacces, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {

		/*
		 * First those in namespaces of their own: a child inherits what this
		 * process remembers of the host's range, for 100 ms.
		 */
		cmocka_unit_test(bindv6only_makes_no_difference),
		cmocka_unit_test(a_host_with_ipv6_switched_off_gets_ipv4),
		cmocka_unit_test(a_full_range_is_eaddrinuse),
		cmocka_unit_test(no_privilege_is_eacces),

		cmocka_unit_test(the_socket_is_as_promised),
		cmocka_unit_test(the_backlog_is_128),
		cmocka_unit_test(the_port_is_of_the_ephemeral_range),
		cmocka_unit_test(nobody_else_can_bind_the_port),
		cmocka_unit_test(data_goes_both_ways_over_ipv4),
		cmocka_unit_test(data_goes_both_ways_over_ipv6),
		cmocka_unit_test(no_port_twice_among_1000_listeners),
		cmocka_unit_test(many_calls_leave_nothing_open),
		cmocka_unit_test(eight_threads_at_once),
		cmocka_unit_test(eight_children_at_once),
		cmocka_unit_test(null_pointers_are_refused),
		cmocka_unit_test(one_pointer_for_both_is_refused),
		cmocka_unit_test(errno_is_right_when_it_is_formatted),
		cmocka_unit_test(no_fd_left_is_emfile),
	};

	struct rlimit fds;

	/* The usual limit, 1024, is short of what is open at once. */
	if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
	{
		fds.rlim_cur = fds.rlim_max;
		setrlimit(RLIMIT_NOFILE, &fds);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
