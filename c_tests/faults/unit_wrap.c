/*
 * unit_wrap.c
 *		Every system call of the library fails: at each of its occurrences,
 *		with each errno that makes sense, once and for ever.
 *
 * A situation is a host (model.h) that leads the library down one of its
 * paths, most of them to a listener. The path is pinned call by call. Then it
 * is taken again and again, with one more fault each time. expectation()
 * derives from the contract what must come of it.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "model.h"

/*
 * The strategy's numbers, src/strategy.rs: windows before and after one port
 * is shared; ports named exclusively where there are no windows; how small a
 * range is looked at twice; ports kept for a second look.
 */
#define FIRST_SEARCH 7
#define WIDER_SEARCH 32
#define PROBES 16
#define SMALL_RANGE 64
#define KEPT 64

/* As the header has it. */
#define LISTEN_RETRIES 256

/* Of 40000 to 40099: the port that is shared first is an odd one. */
#define FIVE(tens, a, b, c, d, e) \
	"40" tens a ",40" tens b ",40" tens c ",40" tens d ",40" tens e
#define ODD(tens) FIVE(tens, "1", "3", "5", "7", "9")
#define ODD_PORTS \
	ODD("00") "," ODD("01") "," ODD("02") "," ODD("03") "," ODD("04") "," \
	ODD("05") "," ODD("06") "," ODD("07") "," ODD("08") "," ODD("09")
#define EVEN_PORTS FIVE("00", "0", "2", "4", "6", "8")

/* What the kernel may say; 0 ends each list. */
static const int errnos[CALL_KINDS][16] =
{
	[SOCKET] = {EAFNOSUPPORT, EPERM, EACCES, EPROTONOSUPPORT, EOPNOTSUPP,
	ENOSYS, EPFNOSUPPORT, ESOCKTNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS,
	ENOMEM},
	[SETSOCKOPT] = {EINVAL, ENOPROTOOPT, ENOMEM, ENOBUFS, EACCES, EPERM},
	[GETSOCKOPT] = {ENOPROTOOPT, EINVAL, EPERM, ENOBUFS},
	[BIND] = {EADDRINUSE, EACCES, EPERM, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL,
	ENOMEM, ENOBUFS, ENETDOWN},
	[LISTEN] = {EADDRINUSE, EINVAL, EOPNOTSUPP, ENOMEM, ENOBUFS, EACCES, EPERM},
	[GETSOCKNAME] = {ENOBUFS, ENOMEM, EINVAL},
	[OPEN] = {EINTR, ENOENT, EACCES, EPERM, EMFILE, ENFILE, ENOMEM, EIO},
	[READ] = {EINTR, EIO, ENOMEM, EACCES, EPERM},
	[MMAP] = {ENOMEM, EAGAIN, EPERM},
	[NETLINK] = {EPERM, EACCES, EAFNOSUPPORT, EPROTONOSUPPORT, EMFILE, ENFILE,
	ENOBUFS, ENOMEM},
	[SEND] = {EPERM, ECONNREFUSED, ENOBUFS, ENOMEM, EAGAIN},
	[RECV] = {EINTR, EAGAIN, ENOBUFS, ENOMEM, EPERM},
	[CLOSE] = {EINTR, EIO, ENOSPC},
};

/* What the library believes of the host's range before a call. */
typedef enum Belief
{
	RIGHT,						/* it was read */
	STALE,						/* another one was read */
	WRONG,						/* that it is wrong */
	NONE,						/* the first call of the process */
} Belief;

/* A path through the library. */
typedef struct Situation
{
	const char *name;
	const char *path;			/* as path_taken() has it */
	const char *address;
	bool		udp;
	bool		names_range;	/* the caller does: RANGE_MIN to RANGE_MAX */
	int			family;			/* of the socket in the end */
	IcListenerPortOrigin origin;
	int			error;			/* 0: success */
	Belief		belief;
	bool		sampled;		/* not each bind() of a long row fails */
	Host		host;
} Situation;

#define FREE IC_LISTENER_PORT_ORIGIN_FREE
#define REUSED IC_LISTENER_PORT_ORIGIN_REUSED
#define PICKED IC_LISTENER_PORT_ORIGIN_PICKED_BY_KERNEL

/* More than there are, because some are asked for again. */
#define EVERY_NAME 65536

#define QUIET .family = AF_INET6,.origin = FREE
#define TAKEN .family = AF_INET6,.origin = REUSED
#define AT_RANDOM .family = AF_INET6,.origin = PICKED
#define FAILS .family = AF_INET6,.error

static Situation situations[] =
{
	{"quiet host", "Svwbglr", QUIET},
	{"quiet host, 127.0.0.1", "Swbglr", "127.0.0.1",.family = AF_INET,
	.origin = FREE},
	{"quiet host, ::1", "Swbglr", "::1", QUIET},
	{"quiet host, first call", "Svwbglr", QUIET,.belief = NONE},
	{"quiet host, another range was read", "Svwbglr", QUIET,.belief = STALE},
	{"quiet host, the range was wrong", "Svoixwbglr", QUIET,.belief = WRONG},
	{"named range", "SvBlrg", QUIET,.names_range = true,
	.host = {.range = "20000\t20199\n"}},
	{"one port", "Svwbglr", QUIET,.host = {.range = "40000\t40000\n"}},
	{"one port, before 6.3", "SvwoixoixBlrg", QUIET,
	.host = {.range = "40000\t40000\n",.no_windows = true}},
	{"one port, first listen lost", "SvwbglxSvoixoixrBlrg", TAKEN,
	.host = {.range = "40000\t40000\n",.listens_lost = 1}},
	{"host without IPv6", "SSwbglr",.family = AF_INET,.origin = FREE,
	.host = {.no_ipv6 = true}},
	{"bindv6only", "Svwbglr", QUIET,.host = {.ipv6_only = true}},
	{"IPV6_V6ONLY may not be set", "SvGwbglr", QUIET,
	.host = {.keeps_only_v6 = true}},
	{"first listen lost", "SvwbglxSvwbglr", QUIET,.host = {.listens_lost = 1}},
	{"all windows lost", "(Svwbglx)7SvrBoixoixlrg", TAKEN,.host = {.listens_lost = FIRST_SEARCH}},
	{"nothing free", "Sv(wb)7rBoixoixlrg", TAKEN,.host = {.nothing_free = true}},
	{"nothing free, first call", "Svwboix(wb)6rBoixoixlrg", TAKEN,.belief = NONE,
	.host = {.nothing_free = true}},
	{"nothing free, another range was read", "Sv(wb)7rBoixoixxSvrr(wb)32oixoixrBlrg", TAKEN,.belief = STALE,
	.host = {.nothing_free = true}},
	{"nothing free, the range was wrong", "Svoix(wb)6rBoixoixlrg", TAKEN,.belief = WRONG,
	.host = {.nothing_free = true}},
	{"nothing free, slow", "SvwbwboixoixrBlrg", TAKEN,
	.host = {.nothing_free = true,.slow = true}},
	{"nothing free, without IPv6", "SS(wb)7rBoixoixlrg",.family = AF_INET,.origin = REUSED,
	.host = {.nothing_free = true,.no_ipv6 = true}},
	{"nothing free, three listens lost", "Sv(wb)7rBoixoixlxSvrr(wb)32oixoixrBlxSvrBlxSvrBlrg", TAKEN,
	.host = {.nothing_free = true,.listens_lost = 3}},
	{"nothing free, some ports are reserved", "Sv(wb)7rBoixoixmlrug", TAKEN,
	.host = {.nothing_free = true,.reserved = EVEN_PORTS "\n"}},
	{"nothing free, the one to share is reserved", "Sv(wb)7rBoixoixmuxSvrr(wb)32oixoixmrBlrug", TAKEN,
	.host = {.range = "40000\t40099\n",.nothing_free = true,.reserved = ODD_PORTS "\n"}},
	{"nothing free, named range", "Sv(B)16rBlrg", TAKEN,.names_range = true,
	.host = {.range = "20000\t20199\n",.nothing_free = true}},
	{"one descriptor, first listen lost", "SvwbglxSvwbglr", QUIET,
	.host = {.one_descriptor = true,.listens_lost = 1}},
	{"one descriptor, nothing free", "Sv(wb)7rBoxSvrr(wb)32oxoixoixSvrBlrg", TAKEN,
	.host = {.one_descriptor = true,.nothing_free = true}},
	{"before 6.3", "SvwoixoixBlrg", QUIET,.host = {.no_windows = true}},
	{"before 6.3, without IPv6", "SSwoixoixBlrg",.family = AF_INET,.origin = FREE,
	.host = {.no_windows = true,.no_ipv6 = true}},
	{"before 6.3, first listen lost", "SvwoixoixBlxSvBlrg", QUIET,
	.host = {.no_windows = true,.listens_lost = 1}},
	{"before 6.3, nothing free", "Svwoixoix(B)16rBlrg", TAKEN,
	.host = {.no_windows = true,.nothing_free = true}},
	{"before 6.3, nothing free, three listens lost", "Svwoixoix(B)16(rBlxSv)3rBlrg", TAKEN,
	.host = {.no_windows = true,.nothing_free = true,.listens_lost = 3}},
	{"before 6.3, one descriptor, three listens lost", "Svwoxoixoi(xSvBl)4rg", QUIET,
	.host = {.no_windows = true,.one_descriptor = true,.listens_lost = 3}},
	{"no /proc", "Svwbglr", QUIET,.host = {.no_proc = true}},
	{"no /proc, the range was wrong", "Svoowrblrg", AT_RANDOM,.belief = WRONG,
	.host = {.no_proc = true}},
	{"no /proc, the range was wrong, first listen lost", "SvoowrblxSvblrg", AT_RANDOM,
	.belief = WRONG,.host = {.no_proc = true,.listens_lost = 1}},
	{"no /proc, nothing free", "Sv(wb)7rBoxSvrr(wb)32owrbrblrg", AT_RANDOM,
	.host = {.no_proc = true,.nothing_free = true}},
	{"no /proc, before 6.3", "Svwowrblrg", AT_RANDOM,
	.host = {.no_proc = true,.no_windows = true}},
	{"names forbidden", "Svwbglr", QUIET,
	.host = {.names_forbidden = EVERY_NAME}},
	{"names forbidden, before 6.3", "Svwoixoix(Bg)16rBgwrblrg", AT_RANDOM,
	.host = {.names_forbidden = EVERY_NAME,.no_windows = true}},
	{"names forbidden late, before 6.3", "Svwoixoix(BgxSv)16rBgxSvrwrblrg", AT_RANDOM,
	.host = {.names_forbidden = EVERY_NAME,.forbids_late = true,
	.no_windows = true}},
	{"first name forbidden late, before 6.3", "SvwoixoixBgxSvBlrg", QUIET,
	.host = {.names_forbidden = 1,.forbids_late = true,.no_windows = true}},
	{"UDP", "Svbg",.udp = true, QUIET},
	{"UDP, host without IPv6", "SSbg",.udp = true,.family = AF_INET,
	.origin = FREE,.host = {.no_ipv6 = true}},
	{"UDP, no /proc", "Svbg",.udp = true, QUIET,.host = {.no_proc = true}},
	{"UDP, named range", "SvBg",.udp = true, QUIET,.names_range = true},
	{"UDP, named range, first name forbidden late", "SvBgxSvBg",.udp = true, QUIET,
	.names_range = true,
	.host = {.names_forbidden = 1,.forbids_late = true}},

	{"UDP, named range, one descriptor, first name forbidden late", "SvBgxSvBg",
	.udp = true, QUIET,.names_range = true,
	.host = {.names_forbidden = 1,.forbids_late = true,
	.one_descriptor = true}},
	{"UDP, port 0 forbidden", "SvbxoixoixSvBg",.udp = true, QUIET,
	.host = {.forbids_port_0 = true}},
	{"port 0 forbidden", "SvwbgoixoixBlrg", QUIET,.host = {.forbids_port_0 = true}},

	/* These fail: the rest is the census of the report. */
	{"full", "Sv(wb)7rBr(wb)32oixoixr(B)200xoixmNtcctccxu", FAILS = EADDRINUSE,.host = {.full = true}},
	{"full, some ports are reserved", "Sv(wb)7rBr(wb)32oixoixmr(B)191uxoixmmNtcctccxuu", FAILS = EADDRINUSE,
	.sampled = true,
	.host = {.full = true,.reserved = "40001,40003-40010\n"}},
	{"full, netlink refused", "Sv(wb)7rBr(wb)32oixoixr(B)200xoixmNoiixoiixu", FAILS = EADDRINUSE,
	.sampled = true,
	.host = {.full = true,.no_netlink = true}},
	{"full, one descriptor", "Sv(wb)7rBr(wb)32oxoixoixSvr(B)200xoixmNtcctccxu", FAILS = EADDRINUSE,
	.sampled = true,
	.host = {.full = true,.one_descriptor = true}},
	{"full, 16 ports", "Svwboixoixr(B)32xoixmNtcctccxu", FAILS = EADDRINUSE,
	.host = {.full = true,.range = "40000\t40015\n"}},
	{"full, before 6.3", "Svwoixoix(B)16r(B)200xoixmNtcctccxu", FAILS = EADDRINUSE,
	.host = {.full = true,.no_windows = true}},
	{"full, named range", "Sv(B)16r(B)200xmNtcctccxu", FAILS = EADDRINUSE,.sampled = true,
	.names_range = true,
	.host = {.full = true,.range = "20000\t20199\n"}},
	{"full, no /proc", "Sv(wb)7rBr(wb)32owrbrbx", FAILS = EADDRINUSE,
	.host = {.full = true,.no_proc = true}},
	{"full, 127.0.0.1", "S(wb)7rBr(wb)32oixoixr(B)200xoixmNtcctccxu", "127.0.0.1",.family = AF_INET,
	.error = EADDRINUSE,.sampled = true,
	.host = {.full = true}},
	{"full, no /proc, before 6.3", "Svwowrbrbx", FAILS = EADDRINUSE,
	.host = {.full = true,.no_proc = true,.no_windows = true}},
	{"::1 is not of this host", "Swbxoiix", "::1", FAILS = EADDRNOTAVAIL,
	.host = {.no_such_address = true}},
	{"UDP, full, no /proc", "Svbxo",.udp = true, FAILS = EADDRINUSE,
	.host = {.full = true,.no_proc = true}},
	{"UDP, full", "Svb(xoi)3xmNtcctccxu",.udp = true, FAILS = EADDRINUSE,.host = {.full = true}},
	{"UDP, full, netlink refused", "Svb(xoi)3xmNoiixoiixu",.udp = true, FAILS = EADDRINUSE,
	.host = {.full = true,.no_netlink = true}},
	{"UDP, full, named range", "Sv(B)200xmNtcctccxu",.udp = true, FAILS = EADDRINUSE,
	.names_range = true,.host = {.full = true}},
};

#define SITUATIONS ((int) lengthof(situations))

/* The situation at hand. */
static const Situation *at_hand;

/*
 * A call on another host that shows the library that its belief is wrong: the
 * kernel picks a port outside.
 */
static void
disprove_belief(void)
{
	static const Host elsewhere = {.range = "30000\t30001\n",
	.picks_elsewhere = true};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Call		call;

	options.address = "127.0.0.1";
	model_host(&elsewhere);
	model_begin();
	call = open_listener(&options);
	model_end();
	require(call.returned == 0, "no belief: %s", call.report.message);
	close(call.fd);
}

/* A call on a host whose range it reads. */
static void
believe(const char *range)
{
	const Host	host = {.range = range};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Call		call;

	disprove_belief();
	options.address = "127.0.0.1";
	model_host(&host);
	model_begin();
	call = open_listener(&options);
	model_end();
	require(call.returned == 0 && model.counts[OPEN] == 1,
			"the range was not read: %s", call.report.message);
	close(call.fd);
}

static void
set_stage(const Situation *situation)
{
	at_hand = situation;
	now_doing("%s", situation->name);
	switch (situation->belief)
	{
		case RIGHT:
			believe(situation->host.range);
			break;
		case STALE:
			believe("20000\t20199\n");
			break;
		case WRONG:
			disprove_belief();
			break;
		case NONE:
			break;
	}
	model_host(&situation->host);
}

static Call
call_with(const IcListenerOptions *options, bool is_udp)
{
	Call		result;

	model_begin();
	result = open_socket(is_udp ? &udp : &tcp, options);
	model_end();
	return result;
}

static Call
call_as_the_situation_says(void)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = at_hand->address;
	if (at_hand->names_range)
	{
		options.port_min = RANGE_MIN;
		options.port_max = RANGE_MAX;
	}
	return call_with(&options, at_hand->udp);
}

static Call
call_without_options(void)
{
	Call		result;

	model_begin();
	result = call_setup_listener();
	model_end();
	return result;
}

/* For messages of failures: the situation, and the fault that is being tried. */
static void
now_trying(void)
{
	if (model.occurrence == 0)
		now_doing("%s, no fault", at_hand->name);
	else
		now_doing("%s, %s #%d %s %s", at_hand->name,
				  call_names[model.kind], model.occurrence,
				  model.for_ever ? "for ever" : "once",
				  strerror(model.error));
}

/* The range in use, and how many ports of it are not reserved. */
static int
usable_ports(int *min, int *max)
{
	int			usable = 0;

	if (at_hand->names_range)
	{
		*min = RANGE_MIN;
		*max = RANGE_MAX;
		return RANGE_PORTS;
	}
	model_range(min, max);
	for (int port = *min; port <= *max; port++)
		usable += !model_reserves(port);
	return usable;
}

static bool
is_in_range(int port)
{
	int			min;
	int			max;

	usable_ports(&min, &max);
	return min <= port && port <= max &&
		(at_hand->names_range || !model_reserves(port));
}

/* Not listen() when privilege was missing: listen() itself was refused. */
static bool
is_want_of_ports(const IcListenerReport *report)
{
	return (report->step == IC_LISTENER_STEP_BIND &&
			(report->error == EADDRINUSE || report->error == EACCES)) ||
		(report->step == IC_LISTENER_STEP_LISTEN &&
		 report->error == EADDRINUSE);
}

/* The report says what the model saw. */
static void
expect_numbers(const IcListenerReport *report)
{
	int			min;
	int			max;
	int			usable = usable_ports(&min, &max);
	bool		won = report->error == 0;
	bool		picked = won && model.last_given.port == 0;
	bool		unknown = report->port_min == 0;
	bool		shared_one = won && model.shared_one != 0 &&
		model.named == 0 && model.last_given.port == model.shared_one;
	int			tried;
	int			in_use;
	int			forbidden;

	require(report->family == model.family || model.family == 0,
			"family %d, not %d", report->family, model.family);
	require((int) report->listens_lost == model.listens_lost,
			"%u listens lost, not %d", report->listens_lost,
			model.listens_lost);

	/* The range is known when it was read, and is right. */
	require((report->port_min == min && report->port_max == max) ||
			(unknown && report->port_max == 0), "range %d-%d",
			report->port_min, report->port_max);
	require(!unknown || model.named == 0, "no range, but %d ports named",
			model.named);
	require(unknown || at_hand->names_range || model.counts[OPEN] > 0,
			"a range that was not read");
	require((int) report->ports_reserved ==
			(unknown ? 0 : max - min + 1 - usable), "%u reserved",
			report->ports_reserved);

	/* Each port that is named counts, once; before that, the windows do. */
	if (at_hand->udp && model.named == 0)
	{
		/* The kernel's search is complete. */
		tried = won || unknown ? 1 : usable;
		in_use = report->error == EADDRINUSE ? tried : 0;
		forbidden = report->error == EACCES ? tried : 0;
	}
	else if (model.named > 0 || !unknown)
	{
		tried = model.named + picked + shared_one;
		in_use = model.in_use;
		/* At the second look. */
		if (won && !picked &&
			model.fates[model.last_given.port] == IN_USE)
			in_use--;
		forbidden = model.forbidden;
	}
	else
	{
		in_use = model.window_ports + model.picks_in_use;
		forbidden = model.picks_forbidden;
		tried = in_use + forbidden + picked;
	}
	/* Where it was not ports that were missing, the last one may be unsaid. */
	if (!won && !is_want_of_ports(report))
	{
		require((int) report->ports_tried >= model.named - 1 &&
				(int) report->ports_tried <= tried + 1, "%u tried, not %d",
				report->ports_tried, tried);
		return;
	}
	require((int) report->ports_tried == tried, "%u tried, not %d",
			report->ports_tried, tried);
	require((int) report->ports_in_use == in_use, "%u in use, not %d",
			report->ports_in_use, in_use);
	require((int) report->ports_forbidden == forbidden,
			"%u forbidden, not %d", report->ports_forbidden, forbidden);
}

static IcListenerPortOrigin
origin_seen(void)
{
	if (at_hand->udp)
		return FREE;
	if (model.last_given.port == 0)
		return model.last_window > 0 ? FREE : PICKED;
	return model.last_given.reusable ? REUSED : FREE;
}

/*
 * What the contract says of every success, whatever led to it. Closes the
 * socket.
 */
static void
expect_success(const Call *result, int family, const OpenFds *before,
			   bool reported)
{
	bool		udp = at_hand->udp;

	require(result->returned == 0, "returned %d, errno %s", result->returned,
			strerror(result->error));
	require(open_fds_are(before, result->fd), "other fds than %d are open",
			result->fd);
	require(model.mapped == 0, "%d mappings are left", model.mapped);
	require(result->port >= 1 && result->port == local_port(result->fd),
			"port %d, but the socket has %d", result->port,
			local_port(result->fd));
	require(is_in_range(result->port), "port %d is not of the range",
			result->port);
	require(socket_option(result->fd, SOL_SOCKET, SO_DOMAIN) == family,
			"not of family %d", family);
	require(socket_option(result->fd, SOL_SOCKET, SO_TYPE) ==
			(udp ? SOCK_DGRAM : SOCK_STREAM), "the wrong type");
	require(socket_option(result->fd, SOL_SOCKET, SO_ACCEPTCONN) == !udp,
			"listens: %d", udp);
	require(socket_option(result->fd, SOL_SOCKET, SO_REUSEADDR) == !udp,
			"SO_REUSEADDR: %d", udp);
	require(family == AF_INET || at_hand->address != NULL ||
			socket_option(result->fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0,
			"IPv6 only");
	require((fcntl(result->fd, F_GETFL) & O_NONBLOCK) != 0, "blocking");
	require(fcntl(result->fd, F_GETFD) == FD_CLOEXEC, "not close-on-exec");
	if (reported)
	{
		require(result->report.error == 0 &&
				result->report.step == IC_LISTENER_STEP_NONE,
				"error %d, step %d", result->report.error,
				result->report.step);
		require(result->report.origin == origin_seen(), "origin %d, not %d",
				result->report.origin, origin_seen());
		require(result->report.census_source ==
				IC_LISTENER_CENSUS_SOURCE_NONE, "a census");
		expect_numbers(&result->report);
	}
	require(model.counts[NETLINK] == 0, "success has a census");
	close(result->fd);
}

static void
expect_failure(const Call *result, int error, const OpenFds *before)
{
	require(result->returned == -1, "returned %d", result->returned);
	require(result->error == error, "errno %s, not %s",
			strerror(result->error), strerror(error));
	require(result->port == 0, "port %d", result->port);
	require(result->fd == -1, "fd %d", result->fd);
	require(open_fds_are(before, -1), "an fd leaked, or one was closed");
	require(model.held == 0 && model.mapped == 0,
			"%d descriptors and %d mappings are left", model.held,
			model.mapped);
}

static void
expect_report(const Call *result, int error, IcListenerStep step)
{
	const IcListenerReport *report = &result->report;

	require(report->error == error, "the report says %s, not %s",
			strerror(report->error), strerror(error));
	require(report->step == step, "step %s, not %s",
			ic_listener_step_name(report->step), ic_listener_step_name(step));
	require(report->origin == IC_LISTENER_PORT_ORIGIN_NONE, "origin %d",
			report->origin);
	require(report->message[0] != '\0', "no message");
	expect_numbers(report);
}

/* What the model's sockets are counted as. */
static void
expect_census(const IcListenerReport *report, IcListenerCensusSource source,
			  bool no_ipv6)
{
	bool		taken = source != IC_LISTENER_CENSUS_SOURCE_NONE;
	bool		only_ipv6 = at_hand->address != NULL &&
		strcmp(at_hand->address, "::1") == 0;
	int			listening = taken && !only_ipv6 && is_in_range(RANGE_MIN) ?
		CENSUS_LISTENING : 0;
	int			time_wait = taken && !no_ipv6 && is_in_range(RANGE_MIN + 1) ?
		CENSUS_TIME_WAIT : 0;
	int			unknown;

	require(report->census_source == source, "census %d, not %d",
			report->census_source, source);
	require(report->census_complete == taken, "complete: %d",
			report->census_complete);
	require((int) report->ports_listening == listening &&
			(int) report->ports_time_wait == time_wait &&
			(int) report->time_wait_next_s == time_wait * CENSUS_SECONDS &&
			(int) report->time_wait_last_s == time_wait * CENSUS_SECONDS &&
			report->ports_bound == 0 && report->ports_connected == 0 &&
			report->ports_closing == 0, "the census is another one: %s",
			report->message);
	unknown = (int) report->ports_in_use - listening - time_wait;
	if (!taken || unknown < 0)
		unknown = 0;
	require((int) report->ports_unknown == unknown, "%u unknown, not %d",
			report->ports_unknown, unknown);
}

/*
 * A lost port is never tried in the other family: two processes would share a
 * port number.
 */
static void
expect_no_change_of_family(void)
{
	for (int i = 1; i < model.recorded_count; i++)
		require(model.recorded[i].kind != BIND ||
				model.recorded[i].family == at_hand->family,
				"tried family %d", model.recorded[i].family);
}

/*
 * The work is bounded. In each family the kernel searches so many windows.
 * Each port is asked for once, or twice if it was first named without
 * SO_REUSEADDR, and once more for each lost listen. Each lost listen costs a
 * socket. So do a refusal that leaves the socket bound, or may have, a
 * descriptor that is lent, and UDP when port 0 is forbidden; nothing else
 * does.
 */
static void
expect_bounds(void)
{
	int			lost = model.counts[LISTEN];
	int			min;
	int			max;
	int			ports = usable_ports(&min, &max);
	int			late = at_hand->host.forbids_late ?
		at_hand->host.names_forbidden : 0;

	if (model.kind == GETSOCKNAME && model.occurrence != 0)
		late = model.named;
	for (int i = 0; i < 2; i++)
	{
		int			family = i == 0 ? AF_INET6 : AF_INET;
		int			binds = calls_of(BIND, family);
		int			sockets = calls_of(SOCKET, family);
		int			first = PROBES;
		int			picks = 2;
		int			shared_one = 1;

		/* Ports in use of a small range are asked for again. */
		if (ports <= SMALL_RANGE)
			first = 2 * ports;
		require(binds <= FIRST_SEARCH + WIDER_SEARCH + shared_one + first +
				ports + picks + lost, "%d binds in family %d", binds, family);
		if (at_hand->udp &&
			(at_hand->host.forbids_port_0 || model.kind == BIND))
			late = 1;
		require(sockets <= 1 + lost + late + model.lent + shared_one,
				"%d sockets of family %d", sockets, family);
	}
}

/* What must come of a fault. */
typedef struct Expectation
{
	int			error;			/* 0: success */
	int			family;			/* in case of success */
	IcListenerStep step;		/* in case of failure */
} Expectation;

/* No port was found: which errno says so. */
static Expectation
want_of_ports(void)
{
	bool		forbidden = model.named > 0 ?
		model.forbidden == model.named :
		model.picks_forbidden > 0 && model.picks_in_use == 0 &&
		model.window_ports == 0;

	/* Privilege is what is missing when every port was refused for it. */
	return (Expectation)
	{
		forbidden && model.listens_lost == 0 ? EACCES : EADDRINUSE, 0,
			model.listens_lost > 0 ? IC_LISTENER_STEP_LISTEN :
			IC_LISTENER_STEP_BIND
	};
}

static bool
is_among(int error, const int *list)
{
	while (*list != 0 && *list != error)
		list++;
	return *list != 0;
}

/*
 * Called when the call is over: where ports were missing, what the model saw
 * counts.
 */
static Expectation
expectation(const Recorded *hit, int error, bool for_ever)
{
	static const int no_such_family[] = {EAFNOSUPPORT, EPERM, EACCES,
		EPROTONOSUPPORT, EOPNOTSUPP, ENOSYS, EPFNOSUPPORT, ESOCKTNOSUPPORT,
	EINVAL, 0};
	/* Asked for twice. UDP takes names that are there. */
	static const int momentary[] = {EMFILE, ENFILE, ENOMEM, 0};
	static const int this_port[] = {EADDRINUSE, EACCES, EPERM, 0};
	bool		other_family = at_hand->address == NULL &&
		hit->family == AF_INET6 && !for_ever;
	Expectation as_ever = {0, at_hand->family, 0};

	if (at_hand->error == EADDRNOTAVAIL)
		as_ever = (Expectation) {EADDRNOTAVAIL, 0, IC_LISTENER_STEP_BIND};
	else if (at_hand->error != 0)
		as_ever = want_of_ports();

	switch (hit->kind)
	{
		case SOCKET:
			/* Without IPv6, there is IPv4. */
			if (is_among(error, no_such_family) && other_family)
			{
				as_ever.family = AF_INET;
				return as_ever;
			}
			return (Expectation) {error, 0, IC_LISTENER_STEP_SOCKET};

		case SETSOCKOPT:
			/* Without windows, ports are named, or the kernel picks. */
			if (hit->letter == 'w' &&
				(!for_ever || at_hand->error == EADDRNOTAVAIL))
				return as_ever;
			/* What cannot be set may be so already. */
			if (hit->letter == 'v' && !at_hand->host.ipv6_only &&
				(!for_ever || at_hand->udp))
				return as_ever;
			return (Expectation) {error, 0, IC_LISTENER_STEP_SETSOCKOPT};

		case GETSOCKOPT:
			/* Asked because the other way round was refused. */
			return (Expectation) {EPERM, 0, IC_LISTENER_STEP_SETSOCKOPT};

		case BIND:
			if ((error == EAFNOSUPPORT || error == EADDRNOTAVAIL) &&
				other_family)
			{
				as_ever.family = AF_INET;
				return as_ever;
			}
			if (!is_among(error, this_port))
				return (Expectation) {error, 0, IC_LISTENER_STEP_BIND};

			/*
			 * A single refusal costs the port only. When only the kernel's
			 * own choice is left, it is asked for again with SO_REUSEADDR.
			 * UDP is not, but names ports where port 0 is forbidden.
			 */
			if (for_ever || (hit->port == 0 && hit->reusable))
				return want_of_ports();
			if (at_hand->udp && hit->port == 0 &&
				(error == EADDRINUSE || at_hand->host.no_proc))
				return want_of_ports();
			return as_ever;

		case LISTEN:
			if (error != EADDRINUSE)
				return (Expectation) {error, 0, IC_LISTENER_STEP_LISTEN};
			/* A lost listen costs the port only. */
			return for_ever ? want_of_ports() : as_ever;

		case GETSOCKNAME:
			/* Asked whether the socket is bound after the refusal. */
			if (hit->after_refusal && (!for_ever || at_hand->error != 0))
				return as_ever;
			return (Expectation) {error, 0, IC_LISTENER_STEP_GETSOCKNAME};

		default:
			/* What is read here is not needed, unless port 0 is forbidden. */
			if (at_hand->host.forbids_port_0 && model.named == 0 &&
				error != EINTR &&
				(for_ever || at_hand->udp || !is_among(error, momentary)))
				return want_of_ports();
			return as_ever;
	}
}

/*
 * Which source the census comes from, after a fault in it or before it. -1
 * for faults that last: it depends on where they began.
 */
static int
census_expected(const Recorded *hit, int error, bool for_ever, bool in_census,
				const IcListenerReport *report)
{
	bool		no_proc = at_hand->host.no_proc;
	int			from_proc = no_proc ? IC_LISTENER_CENSUS_SOURCE_NONE :
		IC_LISTENER_CENSUS_SOURCE_PROC;
	int			as_ever = at_hand->host.no_netlink ? from_proc :
		IC_LISTENER_CENSUS_SOURCE_NETLINK;

	if (!is_want_of_ports(report) || report->ports_in_use == 0 || report->port_min == 0)
		return IC_LISTENER_CENSUS_SOURCE_NONE;
	switch (hit->kind)
	{
		case NETLINK:
		case SEND:
		case RECV:
			return from_proc;
		case OPEN:
		case READ:
		case MMAP:
			if (error == EINTR)
				return as_ever;
			/* The census may have read another list than the call. */
			if (error == ENOENT && hit->of_reserved &&
				at_hand->host.reserved != NULL)
				return -1;
			/* No list, or no IPv6: an older kernel, or one without it. */
			if (hit->kind == OPEN && error == ENOENT &&
				(hit->of_ipv6 || (hit->of_reserved && !for_ever)))
				return as_ever;
			if (hit->kind == OPEN && error == ENOENT && hit->of_reserved)
				return at_hand->host.no_netlink ?
					IC_LISTENER_CENSUS_SOURCE_NONE : as_ever;
			if (!in_census)
				return for_ever ? -1 : as_ever;
			return IC_LISTENER_CENSUS_SOURCE_NONE;
		default:
			return as_ever;
	}
}

static int	faults_tried;

typedef struct Fault
{
	const Situation *situation;
	const Recorded *hit;
	int			error;
	bool		for_ever;
	bool		in_census;
	bool		reported;
} Fault;

static void
go_again(const Fault *fault)
{
	const Recorded *hit = fault->hit;
	OpenFds		before = open_fds();
	Expectation expected;
	Call		result;

	set_stage(fault->situation);
	model_fault(hit->kind, hit->occurrence, fault->for_ever, fault->error);
	now_trying();

	result = fault->reported ? call_as_the_situation_says() :
		call_without_options();
	/* Where there is no such file, nothing is reserved. */
	if (!fault->in_census && fault->error == ENOENT && hit->kind == OPEN &&
		hit->of_reserved)
		model.host.reserved = "\n";
	expected = expectation(hit, fault->error, fault->for_ever);

	require(model.counts[hit->kind] >= hit->occurrence ||
			(fault->in_census && !fault->reported), "was not reached");
	expect_bounds();
	if (hit->kind == LISTEN)
		expect_no_change_of_family();
	if (expected.error == 0)
		expect_success(&result, expected.family, &before, fault->reported);
	else
	{
		expect_failure(&result, expected.error, &before);
		if (fault->reported)
		{
			int			source;

			expect_report(&result, expected.error, expected.step);
			source = census_expected(hit, fault->error, fault->for_ever,
									 fault->in_census, &result.report);
			if (source >= 0)
				expect_census(&result.report, source,
							  hit->kind == OPEN && hit->of_ipv6 &&
							  fault->error == ENOENT);
		}
		else
			require(model.counts[NETLINK] == 0, "a census for nobody");
	}
	/* A signal changes nothing. */
	if (fault->error == EINTR && fault->reported &&
		(hit->kind == OPEN || hit->kind == READ) &&
		at_hand->error == 0)
		require(result.report.origin == at_hand->origin, "origin %d",
				result.report.origin);
}

/* One fault: once with a report, and once without. */
static void
try_fault(Fault *fault)
{
	const Situation *situation = fault->situation;
	bool		simple = situation->address == NULL && !situation->udp &&
		!situation->names_range;

	for (int way = 0; way <= (int) simple; way++)
	{
		int			child = 0;

		faults_tried++;
		fault->reported = way == 0;
		if (situation->belief == NONE)
		{
			child = fork_child();
			if (child != 0)
			{
				wait_for_child(child);
				continue;
			}
		}
		go_again(fault);
		if (situation->belief == NONE)
			_exit(0);
	}
}

/*
 * No port is named twice on the way to success, but for the one that was to be
 * shared before the pass.
 */
static void
expect_fresh_ports(void)
{
	uint8_t		seen[65536] = {0};
	bool		shared_one = model.shared_one == 0;

	for (int i = 0; i < model.recorded_count; i++)
	{
		const Recorded *call = &model.recorded[i];

		if (call->kind != BIND || call->port == 0)
			continue;
		if (!shared_one && call->port == model.shared_one)
		{
			shared_one = true;
			continue;
		}
		require(!seen[call->port], "port %d was tried twice", call->port);
		seen[call->port] = 1;
	}
}

/* The path without a fault. */
static void
go_first(const Situation *situation)
{
	OpenFds		before = open_fds();
	Call		result;

	set_stage(situation);
	now_trying();
	result = call_as_the_situation_says();
	require(same_path(situation->path, path_taken()),
			"the path is %s, not %s", path_taken(), situation->path);
	require(model.allocations == 0, "%d allocations", model.allocations);
	expect_bounds();
	if (situation->error != 0)
	{
		static const Recorded nothing = {.kind = CALL_KINDS};
		Expectation expected = expectation(&nothing, 0, false);

		require(expected.error == situation->error, "the situation is wrong");
		expect_failure(&result, situation->error, &before);
		expect_report(&result, situation->error, expected.step);
		expect_census(&result.report,
					  census_expected(&nothing, 0, false, false,
									  &result.report), false);
		return;
	}
	expect_success(&result, situation->family, &before, true);
	require(result.report.origin == situation->origin, "port origin %d",
			result.report.origin);
	require((int) result.report.listens_lost == situation->host.listens_lost,
			"%u listens lost", result.report.listens_lost);
	expect_fresh_ports();
	if (situation->udp)
		require(model.counts[LISTEN] == 0, "UDP listens");
}

/* In a row of bind(), not all fail; under valgrind, few. */
static bool
is_tried(const Situation *situation, const Recorded *path, int i, int length)
{
	int			step = RUNNING_ON_VALGRIND ? 61 : situation->sampled ? 13 : 1;
	bool		in_row;

	if (errnos[path[i].kind][0] == 0)
		return false;
	in_row = path[i].kind == BIND && i > 0 && i + 1 < length &&
		path[i - 1].kind == BIND && path[i + 1].kind == BIND;
	return !in_row || path[i].occurrence % step == 0;
}

static void
try_all_faults(void *argument)
{
	const Situation *situation = argument;
	int			length;
	int			given_up = 0;
	Recorded   *path;

	if (situation->belief == NONE)
	{
		/* What the first call of a process does, which that process tells. */
		Model	   *shared = mmap(NULL, sizeof(Model), PROT_READ | PROT_WRITE,
								  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		int			child;

		require(shared != MAP_FAILED, "out of memory");
		child = fork_child();
		if (child == 0)
		{
			go_first(situation);
			*shared = model;
			_exit(0);
		}
		wait_for_child(child);
		model = *shared;
		munmap(shared, sizeof(Model));
	}
	else
		go_first(situation);

	length = model.recorded_count;
	path = malloc(length * sizeof(Recorded));
	require(path != NULL, "out of memory");
	memcpy(path, model.recorded, length * sizeof(Recorded));
	for (int i = 0; i < length; i++)
		if (path[i].of_socket)
			given_up = i;

	for (int i = 0; i < length; i++)
	{
		if (!is_tried(situation, path, i, length))
			continue;
		for (const int *error = errnos[path[i].kind]; *error != 0; error++)
		{
			int			number = error - errnos[path[i].kind];

			/* What is freed and closed is mostly the same. */
			if (RUNNING_ON_VALGRIND &&
				(number + i) % (situation->belief == NONE ? 12 : 3) != 0)
				continue;
			for (int for_ever = 0; for_ever <= 1; for_ever++)
			{
				Fault		fault = {situation, &path[i], *error, for_ever,
				.in_census = situation->error != 0 && i > given_up};

				/* Signals do not come for ever. */
				if (*error != EINTR || !for_ever)
					try_fault(&fault);
			}
		}
	}
	free(path);
	printf("# %s: %d faults tried\n", situation->name, faults_tried);
}

static void
test_situation(void **situation)
{
	assert_passes_in_child(try_all_faults, *situation);
}

/*
 * The rest are single cases.
 */

static const Situation quiet = {"quiet host",.family = AF_INET6,.origin = FREE};
static const Situation nothing_free = {"nothing free",.family = AF_INET6,
.origin = REUSED,.host = {.nothing_free = true}};
static const Situation before_6_3 = {"before 6.3",.family = AF_INET6,
.origin = FREE,.host = {.no_windows = true}};
static const Situation nothing_free_before_6_3 = {"nothing free, before 6.3",
.family = AF_INET6,.origin = REUSED,
.host = {.no_windows = true,.nothing_free = true}};
static const Situation no_proc = {"no /proc",.family = AF_INET6,
.origin = PICKED,.belief = WRONG,.host = {.no_proc = true}};
static const Situation full = {"full",.family = AF_INET6,.error = EADDRINUSE,
.host = {.full = true}};

TEST(a_quiet_host_costs_seven_calls)
{
	OpenFds		before = open_fds();

	set_stage(&quiet);
	for (int i = 0; i < 3; i++)
	{
		Call		result = call_without_options();

		/* socket, IPV6_V6ONLY, window, bind, getsockname, listen, reuse */
		require(model.recorded_count == 7, "%d calls: %s",
				model.recorded_count, path_taken());
		expect_success(&result, AF_INET6, &before, false);
	}
}

TEST(no_memory_is_allocated)
{
	for (int i = 0; i < SITUATIONS; i++)
	{
		Call		result;

		if (situations[i].belief == NONE)
			continue;
		set_stage(&situations[i]);
		model.no_memory = true;
		result = call_as_the_situation_says();
		require(result.error == situations[i].error, "%s",
				strerror(result.error));
		require(model.allocations == 0, "%d allocations", model.allocations);
		if (result.returned == 0)
			close(result.fd);
	}
}

/* The first call of a process does what is lazy. */
TEST(nor_does_the_first_call)
{
	Call		result;

	model_host(NULL);
	model.no_memory = true;
	result = call_without_options();
	require(result.returned == 0, "%s", strerror(result.error));
	require(model.allocations == 0, "%d allocations", model.allocations);
	close(result.fd);
}

/* A list of reserved ports that takes several pages of memory. */
static const char *
long_list(void)
{
	static char list[4096];

	for (size_t i = 0; i < sizeof(list) - 1; i++)
		list[i] = "1,"[i % 2];
	list[sizeof(list) - 2] = '\n';
	list[sizeof(list) - 1] = '\0';
	return list;
}

TEST(without_memory_nothing_breaks)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	OpenFds		before = open_fds();
	Call		result;

	/* An address that is quoted in the message. */
	set_stage(&quiet);
	model.no_memory = true;
	options.address = "nonsense";
	result = call_with(&options, false);
	require(model.allocations > 0, "nothing was allocated");
	expect_failure(&result, EINVAL, &before);
	expect_report(&result, EINVAL, IC_LISTENER_STEP_ADDRESS);

	/* The kernel has no memory either. */
	set_stage(&quiet);
	model.no_memory = true;
	model_fault(SOCKET, 1, true, ENOMEM);
	result = call_with(NULL, false);
	require(model.allocations == 0, "%d allocations", model.allocations);
	expect_failure(&result, ENOMEM, &before);
	expect_report(&result, ENOMEM, IC_LISTENER_STEP_SOCKET);

	/* A list of reserved ports too long for the stack is mapped. */
	for (int i = 0; i < 5; i++)
	{
		/* Without memory for it, it is asked for twice. */
		static const struct
		{
			int			occurrence;
			bool		for_ever;
			int			mappings;
			IcListenerPortOrigin origin;
		}			cases[] =
		{
			{0, false, 2, FREE},
			{1, false, 3, FREE},
			{2, false, 4, FREE},
			{1, true, 2, PICKED},
			{2, true, 3, PICKED},
		};
		Situation	situation = before_6_3;

		situation.host.reserved = long_list();
		set_stage(&situation);
		now_doing("a long list, case %d", i);
		model.no_memory = true;
		model_fault(MMAP, cases[i].occurrence, cases[i].for_ever, ENOMEM);
		result = call_with(NULL, false);
		require(model.allocations == 0, "%d allocations", model.allocations);
		require(model.counts[MMAP] == cases[i].mappings, "%d mappings",
				model.counts[MMAP]);
		require(result.report.origin == cases[i].origin, "origin %d",
				result.report.origin);
		expect_success(&result, AF_INET6, &before, true);
	}
}

/* The message of a refused address is the only thing that is freed. */
TEST(errno_is_set_when_all_is_freed)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	OpenFds		before = open_fds();
	Call		result;

	set_stage(&quiet);
	options.address = "nonsense";
	result = call_with(&options, false);
	require(model.allocations > 0, "nothing was allocated");
	expect_failure(&result, EINVAL, &before);
	expect_report(&result, EINVAL, IC_LISTENER_STEP_ADDRESS);
}

/* Where the range cannot be read, ports cannot be named. */
static void
expect_kernel_picks(const Situation *situation, const char *file,
					const char *why)
{
	OpenFds		before = open_fds();
	Call		result = call_with(NULL, false);

	require(result.report.origin == PICKED, "origin %d",
			result.report.origin);
	require(result.report.port_min == 0, "range from %d",
			result.report.port_min);
	expect_success(&result, situation->family, &before, true);

	/* Where it finds none, the message says what could not be read. */
	model.host.full = true;
	result = call_with(NULL, false);
	expect_failure(&result, EADDRINUSE, &before);
	expect_report(&result, EADDRINUSE, IC_LISTENER_STEP_BIND);
	expect_in(result.report.message, file);
	expect_in(result.report.message, why);
}

TEST(an_unreadable_range_leaves_it_to_the_kernel)
{
	static const int failures[] = {ENOENT, EACCES, EPERM, EMFILE, ENFILE,
	ENOMEM, EIO};
	static const char *const ranges[] = {"", "\n", "x", "32768\n",
	"60999\t32768\n", "1\t65536\n", "1\t2\t3\n", "-1\t5\n"};
	static const char *const lists[] = {"", "x\n", "1-\n", "1;2\n", "65536\n"};
	Situation	situation = before_6_3;

	/* Neither the first file that is opened nor the second. */
	for (size_t i = 0; i < 4 * lengthof(failures); i++)
	{
		int			error = failures[i / 4];
		int			file = i / 2 % 2 + 1;
		CallKind	kind = i % 2 == 0 ? OPEN : READ;
		bool		lent = error == EMFILE || error == ENFILE ||
			error == ENOMEM;

		/* A call that lends a descriptor reads both once more. */
		const char *name = file == 1 || lent ? "ip_local_port_range" :
			"ip_local_reserved_ports";

		/* Before Linux 4.3 there is no such file: nothing is reserved. */
		if (file == 2 && error == ENOENT)
			continue;
		/* As long as it lasts; a descriptor can be lent. */
		set_stage(&situation);
		now_doing("%s #%d, %s", call_names[kind], file, strerror(error));
		model_fault(kind, file, true, error);
		expect_kernel_picks(&situation, name, strerror(error));
	}

	/* What a container runtime leaves of a file that it hides. */
	for (size_t i = 0; i < lengthof(ranges) + lengthof(lists); i++)
	{
		bool		is_range = i < lengthof(ranges);
		const char *text = is_range ? ranges[i] : lists[i - lengthof(ranges)];

		set_stage(&situation);
		now_doing("hidden: \"%s\"", text);
		/* The model's kernel goes on picking from the range it has. */
		model.hidden_range = is_range ? text : NULL;
		model.hidden_list = is_range ? NULL : text;
		expect_kernel_picks(&situation, is_range ? "ip_local_port_range" :
							"ip_local_reserved_ports", "hidden");
	}
}

/* /proc may have room when the socket makes some. */
TEST(a_descriptor_is_lent_to_proc)
{
	static const int errors[] = {EMFILE, ENFILE, ENOMEM};

	for (int i = 0; i < 6; i++)
	{
		OpenFds		before = open_fds();
		Call		result;

		set_stage(i < 3 ? &before_6_3 : &nothing_free);
		model_fault(OPEN, 1, false, errors[i % 3]);
		result = call_with(NULL, false);
		require(model.counts[SOCKET] == 2 && model.lent == 1,
				"%d sockets, %d times lent", model.counts[SOCKET], model.lent);
		require(result.report.origin == (i < 3 ? FREE : REUSED), "origin %d",
				result.report.origin);
		expect_success(&result, AF_INET6, &before, true);
	}
}

TEST(a_port_0_from_getsockname_is_refused)
{
	const Situation *const all[] = {&quiet, &nothing_free, &before_6_3,
	&no_proc};

	for (size_t i = 0; i < lengthof(all); i++)
	{
		OpenFds		before = open_fds();
		Call		result;

		set_stage(all[i]);
		model.forge_port_0 = true;
		result = call_as_the_situation_says();
		expect_failure(&result, EADDRNOTAVAIL, &before);
		expect_report(&result, EADDRNOTAVAIL, IC_LISTENER_STEP_GETSOCKNAME);
	}
}

/* As a cgroup's program may: getsockname() says which port it is. */
TEST(a_port_that_becomes_another_one_is_told_as_it_is)
{
	const Situation *const all[] = {&nothing_free, &before_6_3,
	&nothing_free_before_6_3};

	for (int i = 0; i < 20 * (int) lengthof(all); i++)
	{
		OpenFds		before = open_fds();
		Call		result;

		set_stage(all[i % lengthof(all)]);
		model.host.renames = true;
		result = call_as_the_situation_says();
		require(result.port == (model.last_given.port ^ 1),
				"port %d, %d was named", result.port, model.last_given.port);
		expect_success(&result, AF_INET6, &before, true);
	}
}

/* The range is the host's as it is now, whatever it was before. */
TEST(a_changed_range_counts)
{
	static const char *const reserved[] = {"\n", "40000-40054,40056-40199\n"};
	static const char *const ranges[] = {"40100\t40100\n", "40000\t40199\n"};
	static const int ports[] = {40100, 40055};

	for (int i = 0; i < 4; i++)
	{
		OpenFds		before = open_fds();
		Situation	situation = i < 2 ? quiet : before_6_3;
		Call		result;

		/* Right before, the range was that of a quiet host. */
		set_stage(&situation);
		situation.host.range = ranges[i % 2];
		situation.host.reserved = reserved[i % 2];
		model_host(&situation.host);
		result = call_as_the_situation_says();
		require(result.port == ports[i % 2], "port %d", result.port);
		expect_success(&result, AF_INET6, &before, true);
	}
}

/* Of every port that is refused, the report says how. */
TEST(the_report_counts_what_was_refused)
{
	static const int refusals[] = {EADDRINUSE, EACCES, EPERM};

	for (int way = 0; way < 4; way++)
	{
		for (int i = 0; i < 3; i++)
		{
			bool		in_use = refusals[i] == EADDRINUSE;
			OpenFds		before = open_fds();
			Situation	situation = way == 1 ? before_6_3 : quiet;
			Call		result;

			situation.udp = way >= 2;
			situation.names_range = way == 3;
			set_stage(&situation);
			model_fault(BIND, 1, true, refusals[i]);
			result = call_as_the_situation_says();
			expect_failure(&result, in_use ? EADDRINUSE : EACCES, &before);
			require(result.report.ports_tried == RANGE_PORTS, "%u tried",
					result.report.ports_tried);
			require(result.report.ports_in_use == (in_use ? RANGE_PORTS : 0),
					"%u in use", result.report.ports_in_use);
			require(result.report.ports_forbidden ==
					(in_use ? 0 : RANGE_PORTS), "%u forbidden",
					result.report.ports_forbidden);
			require(result.report.listens_lost == 0, "%u listens lost",
					result.report.listens_lost);
			expect_in(result.report.message, in_use ? "in use" : "forbidden");
		}
	}
}

/* listen_retries counts at the second look. The range bounds the first one. */
TEST(lost_listens_are_limited_by_the_option)
{
	static const int limits[] = {1, 7, 63, 64, 100};
	static const struct
	{
		const Situation *situation;
		int			first_look;
	}			cases[] =
	{
		{&quiet, FIRST_SEARCH + WIDER_SEARCH + RANGE_PORTS + 1},
		{&nothing_free, RANGE_PORTS + 1},
		{&before_6_3, PROBES + RANGE_PORTS},
		{&nothing_free_before_6_3, RANGE_PORTS},
		{&no_proc, 0},
	};

	for (size_t i = 0; i < lengthof(limits) * lengthof(cases); i++)
	{
		IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
		int			limit = limits[i % lengthof(limits)];
		int			first_look = cases[i / lengthof(limits)].first_look;
		OpenFds		before = open_fds();
		Call		result;

		options.listen_retries = limit;
		set_stage(cases[i / lengthof(limits)].situation);
		model_fault(LISTEN, 1, true, EADDRINUSE);
		result = call_with(&options, false);
		expect_failure(&result, EADDRINUSE, &before);
		expect_report(&result, EADDRINUSE, IC_LISTENER_STEP_LISTEN);
		require(model.counts[LISTEN] == first_look + limit + 1,
				"%d listens with %d retries", model.counts[LISTEN], limit);
		require((int) result.report.listens_lost == model.counts[LISTEN],
				"the report says %u", result.report.listens_lost);
		expect_no_change_of_family();
	}
}

/* Netlink may say anything. */
TEST(an_answer_that_is_none_gives_no_census_of_netlink)
{
	static const struct
	{
		const char *bytes;
		int			length;
	}			answers[] =
	{
		{"", 0},
		{"\x10\0\0", 3},
		{"\x10\0\0\0\x14\0\0\0\0\0\0\0\0\0\0\0", 16},	/* no socket in it */
		{"\xff\xff\xff\xff\x14\0\0\0\0\0\0\0\0\0\0\0", 16},
		{"\x0f\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0", 16},	/* shorter than itself */
		{"\x14\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff", 20},	/* EPERM */
	};

	for (size_t i = 0; i < lengthof(answers); i++)
	{
		OpenFds		before = open_fds();
		Call		result;

		set_stage(&full);
		now_doing("answer %d", (int) i);
		model.garbage = answers[i].bytes;
		model.garbage_length = answers[i].length;
		result = call_as_the_situation_says();
		expect_failure(&result, EADDRINUSE, &before);
		expect_report(&result, EADDRINUSE, IC_LISTENER_STEP_BIND);
		expect_census(&result.report, IC_LISTENER_CENSUS_SOURCE_PROC, false);
	}
}

/* After half a second the rest is not counted. */
TEST(a_census_ends_in_time)
{
	OpenFds		before = open_fds();
	Call		result;

	set_stage(&full);
	model.late_answers = true;
	result = call_as_the_situation_says();
	expect_failure(&result, EADDRINUSE, &before);
	require(result.report.census_source == IC_LISTENER_CENSUS_SOURCE_NETLINK,
			"census %d", result.report.census_source);
	expect_equal(result.report.census_complete, 0);
	expect_equal(result.report.ports_listening, CENSUS_LISTENING);
	expect_equal(result.report.ports_time_wait, 0);
	expect_equal(model.counts[RECV], 1);
}

static void
close_rivals(void)
{
	while (model.rival_count > 0)
		close(model.rivals[--model.rival_count]);
}

/* Rivals really listen on the port, between our bind() and listen(). */
TEST_IN_NETNS(a_rival_costs_one_port)
{
	static const int rivals[] = {1, 2, 3, 16, 64, 65, 150, RANGE_PORTS - 1};
	const Situation *const both[] = {&nothing_free, &nothing_free_before_6_3};

	for (size_t i = 0; i < 2 * lengthof(rivals); i++)
	{
		int			wanted = rivals[i / 2];
		OpenFds		before = open_fds();
		Call		result;

		set_stage(both[i % 2]);
		now_doing("%s, %d rivals", both[i % 2]->name, wanted);
		model.rivals_wanted = wanted;
		result = call_with(NULL, false);
		require(result.returned == 0, "%s", strerror(result.error));
		require((int) result.report.listens_lost == wanted,
				"%u listens lost", result.report.listens_lost);
		require(result.report.origin == REUSED, "origin %d",
				result.report.origin);
		for (int rival = 0; rival < wanted; rival++)
			require(local_port(model.rivals[rival]) != result.port,
					"port %d is the rival's", result.port);
		require(socket_option(result.fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6,
				"the family was changed");
		require(model.counts[SOCKET] == wanted + 1, "%d sockets",
				model.counts[SOCKET]);
		close_rivals();
		require(open_fds_are(&before, result.fd), "an fd leaked");
		close(result.fd);
	}
}

/* Another socket wins every port. */
TEST_IN_NETNS(rivals_on_all_ports_are_eaddrinuse)
{
	static const char *const ranges[] = {"40000\t40199\n", "40000\t40015\n"};
	static const int sizes[] = {RANGE_PORTS, 16};

	/* What was lost before the pass is in use when the pass comes to it. */
	static const int in_use[] = {1, 0, PROBES, PROBES};

	for (int i = 0; i < 4; i++)
	{
		Situation	situation = i < 2 ? nothing_free :
			nothing_free_before_6_3;
		int			ports = sizes[i % 2];
		OpenFds		before = open_fds();
		Call		result;

		situation.host.range = ranges[i % 2];
		set_stage(&situation);
		now_doing("%s, %d ports", situation.name, ports);
		model.rivals_wanted = lengthof(model.rivals);
		result = call_with(NULL, false);
		close_rivals();
		expect_failure(&result, EADDRINUSE, &before);
		expect_report(&result, EADDRINUSE, IC_LISTENER_STEP_LISTEN);
		require((int) result.report.listens_lost == ports &&
				(int) result.report.ports_tried == ports &&
				(int) result.report.ports_in_use == in_use[i],
				"%u listens lost, %u tried, %u in use",
				result.report.listens_lost, result.report.ports_tried,
				result.report.ports_in_use);
		require(model.counts[LISTEN] == ports, "%d listens",
				model.counts[LISTEN]);
	}
}

int
main(void)
{
	const struct CMUnitTest single_cases[] = {
		test(a_quiet_host_costs_seven_calls),
		test(no_memory_is_allocated),
		test(nor_does_the_first_call),
		test(without_memory_nothing_breaks),
		test(errno_is_set_when_all_is_freed),
		test(an_unreadable_range_leaves_it_to_the_kernel),
		test(a_descriptor_is_lent_to_proc),
		test(a_port_0_from_getsockname_is_refused),
		test(a_port_that_becomes_another_one_is_told_as_it_is),
		test(a_changed_range_counts),
		test(the_report_counts_what_was_refused),
		test(lost_listens_are_limited_by_the_option),
		test(an_answer_that_is_none_gives_no_census_of_netlink),
		test(a_census_ends_in_time),
		test(a_rival_costs_one_port),
		test(rivals_on_all_ports_are_eaddrinuse),
	};
	const int	single = lengthof(single_cases);
	struct CMUnitTest tests[SITUATIONS + lengthof(single_cases)];
	const char *missing = enter_netns();

	/* No other process holds a port there. */
	if (missing != NULL)
		print_message("# in the host's network namespace, where others may "
					  "be in the way: no %s\n", missing);
	memcpy(tests, single_cases, sizeof(single_cases));
	for (int i = 0; i < SITUATIONS; i++)
		tests[single + i] = (struct CMUnitTest)
	{
		situations[i].name, test_situation, NULL, NULL, &situations[i]
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
