/*
 * sandbox.c
 *		Policies around the process: Landlock, programs of a cgroup, seccomp
 *		filters. They refuse some ports, or all names, or a family, or
 *		change the port. And too few descriptors.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

#define PORT_MIN 40000
#define SMALL_MAX 40063
#define LARGE_MAX 40999

/* The linker's --wrap leads these through here. */
extern int	__real_bind(int fd, const struct sockaddr *address, socklen_t length);
extern int	__real_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t length);

static int	bind_calls;
static int	permitted_late;		/* others are bound, and then EPERM */
static bool no_windows;			/* as before Linux 6.3; set by main() */

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	bind_calls++;
	if (__real_bind(fd, address, length) != 0)
		return -1;
	if (permitted_late == 0 || address->sa_family == AF_UNIX ||
		local_port(fd) == permitted_late)
		return 0;
	errno = EPERM;
	return -1;
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	if (!no_windows || level != IPPROTO_IP || name != IP_LOCAL_PORT_RANGE)
		return __real_setsockopt(fd, level, name, value, length);
	errno = ENOPROTOOPT;
	return -1;
}

/*
 * From now on bind() may use these TCP ports only; 0 asks the kernel to pick.
 * linux/landlock.h of many distributions lacks the rules for ports.
 */
static void
permit_ports(int port_min, int port_max)
{
	const struct
	{
		uint64_t	access_fs;
		uint64_t	access_net;
	}			handled = {0, 1};	/* LANDLOCK_ACCESS_NET_BIND_TCP */
	int			version = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	int			ruleset;

	if (version < 4)
		skip_child("Landlock with rules for ports: Linux 6.7 or later with "
				   "\"landlock\" in the lsm= of its command line");
	ruleset = syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
	require(ruleset >= 0, "landlock_create_ruleset: %s", strerror(errno));
	for (int port = port_min; port <= port_max; port++)
	{
		const struct
		{
			uint64_t	access;
			uint64_t	port;
		}			rule = {1, port};

		expect(syscall(SYS_landlock_add_rule, ruleset, 2, &rule, 0) == 0);
	}
	expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	expect(syscall(SYS_landlock_restrict_self, ruleset, 0) == 0);
	close(ruleset);
}

TEST_IN_NETNS(only_port_0_is_permitted)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Call		call;

	set_port_range(PORT_MIN, LARGE_MAX);
	permit_ports(0, 0);
	for (int round = 0; round < 10; round++)
	{
		bind_calls = 0;
		call = require_listener(NULL);
		expect(PORT_MIN <= call.port && call.port <= LARGE_MAX);
		/* A policy is not asked a thousand times. */
		require(bind_calls <= 34, "%d times bind()", bind_calls);
	}

	/* Named ports are not exchanged for what the kernel would pick. */
	options.port_min = PORT_MIN;
	options.port_max = SMALL_MAX;
	call = open_listener(&options);
	expect_failed(&call, EACCES);
	expect_equal(call.report.ports_forbidden, 64);
}

TEST_IN_NETNS(only_names_are_permitted)
{
	Ports		taken;
	Call		last;

	set_port_range(PORT_MIN, SMALL_MAX);
	permit_ports(PORT_MIN, SMALL_MAX);
	expect_equal(take_all_ports(&tcp, NULL, &taken, &last), 64);
}

TEST_IN_NETNS(only_one_name_is_permitted)
{
	Call		call;

	set_port_range(PORT_MIN, LARGE_MAX);
	permit_ports(PORT_MIN + 777, PORT_MIN + 777);
	expect_equal(require_listener(NULL).port, PORT_MIN + 777);

	/* It is in use, and the others are forbidden. */
	call = open_listener(NULL);
	expect_failed(&call, EADDRINUSE);
	expect_in(call.report.message, "1000 tried, 1 in use, 999 forbidden");
}

TEST_IN_NETNS(every_port_is_forbidden)
{
	Call		call;

	set_port_range(PORT_MIN, LARGE_MAX);
	permit_ports(1, 0);
	call = open_listener(NULL);
	expect_failed(&call, EACCES);
	expect_equal(call.report.step, IC_LISTENER_STEP_BIND);
	expect_in(call.report.message, "no port to listen on in 40000-40999: "
			  "1000 tried, 1000 forbidden");
}

/*
 * Programs of a cgroup: the child's own group, which ends with it.
 */
#define INSN(operation, dst, src, offset, immediate) \
	((struct bpf_insn) {(operation), (dst), (src), (offset), (immediate)})
#define RETURN INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define RESULT(value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, (value))
#define LOAD(offset) INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 1, (offset), 0)
#define SKIP_UNLESS(value) INSN(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 1, (value))

/* Answers one way to those that have a value, and the other to the rest. */
#define PERMIT(offset, value, then, otherwise) \
	LOAD(offset), RESULT(then), SKIP_UNLESS(value), RESULT(otherwise), RETURN

#define USER_PORT offsetof(struct bpf_sock_addr, user_port)
#define USER_FAMILY offsetof(struct bpf_sock_addr, user_family)

static void
attach(int cgroup, int program_type, int attach_type, const struct bpf_insn *code,
	   int length)
{
	union bpf_attr load;
	union bpf_attr attachment;
	int			program;

	memset(&load, 0, sizeof(load));
	memset(&attachment, 0, sizeof(attachment));
	load.prog_type = program_type;
	load.expected_attach_type = attach_type;
	load.insns = (uintptr_t) code;
	load.insn_cnt = length;
	load.license = (uintptr_t) "GPL";
	program = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	if (program < 0)
		skip_child("programs of cgroups (bpf: %s): run as root, on a kernel "
				   "with CONFIG_CGROUP_BPF", strerror(errno));
	attachment.target_fd = cgroup;
	attachment.attach_bpf_fd = program;
	attachment.attach_type = attach_type;
	require(syscall(SYS_bpf, BPF_PROG_ATTACH, &attachment, sizeof(attachment)) == 0,
			"attach: %s", strerror(errno));
	close(program);
}

/* The program is asked before bind() of both families, or after. */
static void
in_cgroup(bool after_bind, const struct bpf_insn *code, int length, void (*body) (void))
{
	char		root[] = "/tmp/ic_listener_cgroup.XXXXXX";
	char		group[128];
	int			status;
	int			pid;

	enter_mount_namespace();
	if (mkdtemp(root) == NULL || mount("none", root, "cgroup2", 0, NULL) != 0)
	{
		rmdir(root);
		skip_child("cgroup2 of one's own: run as root with CAP_SYS_ADMIN");
	}
	snprintf(group, sizeof(group), "%s/ic_listener_test_%d", root, (int) getpid());
	require(mkdir(group, 0700) == 0, "%s: %s", group, strerror(errno));
	pid = fork_child();
	if (pid == 0)
	{
		int			directory = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int			members = openat(directory, "cgroup.procs", O_WRONLY | O_CLOEXEC);
		int			type = after_bind ? BPF_PROG_TYPE_CGROUP_SOCK :
			BPF_PROG_TYPE_CGROUP_SOCK_ADDR;

		attach(directory, type, after_bind ? BPF_CGROUP_INET4_POST_BIND :
			   BPF_CGROUP_INET4_BIND, code, length);
		attach(directory, type, after_bind ? BPF_CGROUP_INET6_POST_BIND :
			   BPF_CGROUP_INET6_BIND, code, length);
		require(write(members, "0", 1) == 1, "%s: %s", group, strerror(errno));
		close(members);
		close(directory);
		body();
		_exit(0);
	}
	expect(waitpid(pid, &status, 0) == pid);
	rmdir(group);
	umount2(root, MNT_DETACH);
	rmdir(root);
	if (status != 0)
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

#define IN_CGROUP(after_bind, body, ...) \
	do { \
		const struct bpf_insn code[] = {__VA_ARGS__}; \
		\
		in_cgroup(after_bind, code, lengthof(code), body); \
	} while (0)

/* Both kinds, on the host's range and on a named one; each gets the port. */
static void
open_at(int port, int named_min, int named_max)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	for (int i = 0; i < 4; i++)
	{
		OpenFds		before = open_fds();
		Call		call;

		now_doing("%s, named %d", kinds[i % 2]->name, i / 2);
		options.port_min = i / 2 ? named_min : 0;
		options.port_max = i / 2 ? named_max : 0;
		call = open_socket(kinds[i % 2], &options);
		require(call.returned == 0, "%s", call.report.message);
		expect_equal(call.port, port);
		expect_equal(call.port, local_port(call.fd));
		expect(open_fds_are(&before, call.fd));
		expect_equal(open_socket(kinds[i % 2], &options).error, EADDRINUSE);
		expect(open_fds_are(&before, call.fd));
		close(call.fd);
	}
}

#define REWRITTEN 45678
#define PERMITTED (PORT_MIN + 17)

static void
get_the_port_it_is(void)
{
	set_port_range(PORT_MIN, LARGE_MAX);
	open_at(REWRITTEN, 7000, 7099);
}

TEST_IN_NETNS(a_hook_changes_the_port)
{
	IN_CGROUP(false, get_the_port_it_is,
			  INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, htons(REWRITTEN)),
			  INSN(BPF_STX | BPF_MEM | BPF_W, 1, 2, USER_PORT, 0),
			  RESULT(1), RETURN);
}

/*
 * Ports that are refused after they were bound. Linux 5.10 to 5.16 leave the
 * socket bound; elsewhere that is simulated.
 */
static void
open_where_one_port_is_left(void)
{
	set_port_range(PORT_MIN, SMALL_MAX);
	open_at(PERMITTED, PORT_MIN, SMALL_MAX);
}

TEST_IN_NETNS(a_hook_denies_what_is_bound)
{
	IN_CGROUP(true, open_where_one_port_is_left,
			  PERMIT(offsetof(struct bpf_sock, src_port), PERMITTED, 1, 0));
}

TEST_IN_NETNS(a_hook_leaves_bound_what_it_denies)
{
	permitted_late = PERMITTED;
	open_where_one_port_is_left();
}

/* The kernel says EPERM, where Landlock says EACCES. UDP has the hooks too. */
static void
open_both_kinds(void)
{
	set_port_range(PORT_MIN, SMALL_MAX);
	for_each_kind(kind)
	{
		Call		call = open_socket(kind, NULL);

		require(call.returned == 0, "%s: %s", kind->name, call.report.message);
		expect(PORT_MIN <= call.port && call.port <= SMALL_MAX);
	}
}

TEST_IN_NETNS(a_hook_permits_port_0_only)
{
	IN_CGROUP(false, open_both_kinds, PERMIT(USER_PORT, 0, 1, 0));
}

TEST_IN_NETNS(a_hook_permits_names_only)
{
	IN_CGROUP(false, open_both_kinds, PERMIT(USER_PORT, 0, 0, 1));
}

static void
open_on_ipv4(void)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	set_port_range(PORT_MIN, SMALL_MAX);
	options.address = "::";
	for_each_kind(kind)
	{
		Call		call = opens(kind, NULL);

		expect_equal(call.report.family, AF_INET);
		reach(call.fd, "127.0.0.1");

		/* A caller who asks for IPv6 by its address gets no IPv4 instead. */
		call = open_socket(kind, &options);
		expect_failed(&call, EACCES);
		expect_equal(call.report.family, AF_INET6);
	}
}

/* SocketBindDeny=ipv6 of systemd. */
TEST_IN_NETNS(a_hook_forbids_ipv6)
{
	IN_CGROUP(false, open_on_ipv4, PERMIT(USER_FAMILY, AF_INET, 1, 0));
}

TEST_IN_NETNS(ipv6_only_may_not_be_cleared)
{
	skip_without_ipv6();
	refuse_call(SYS_setsockopt, 2, IPV6_V6ONLY, EPERM);
	for_each_kind(kind)
	{
		/* It is clear. */
		set_bindv6only(false);
		reach(opens(kind, NULL).fd, "127.0.0.1");

		/* It is set, and the socket would take no IPv4. */
		set_bindv6only(true);
		refused(kind, NULL, EPERM, IC_LISTENER_STEP_SETSOCKOPT, "setsockopt");
	}
}

/*
 * Descriptors
 */

/* From now on so many can be opened, and no more. */
static void
leave_descriptors(int count)
{
	int			last = -1;

	allow_descriptors(256);
	for (int fd; (fd = dup(STDIN_FILENO)) >= 0; last = fd)
		;
	expect_equal(errno, EMFILE);
	for (int i = 0; i < count; i++)
		close(last - i);
}

TEST_IN_NETNS(no_descriptor_is_left)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	IcListenerCensus census = IC_LISTENER_CENSUS_INIT;

	leave_descriptors(0);
	for (int i = 0; i < 4; i++)
	{
		Call		call;

		options.address = i / 2 ? "fe80::1%lo" : NULL;
		call = open_socket(kinds[i % 2], &options);
		expect_failed(&call, EMFILE);
		expect_equal(call.report.step, IC_LISTENER_STEP_SOCKET);
		expect_in(call.report.message, "Too many open files");
	}
	expect_equal(ic_listener_census(NULL, &census), -1);
	expect_equal(errno, EMFILE);
	expect_equal(census.error, EMFILE);
}

/* One is enough: on a free port, on a shared one, and to say there is none. */
TEST_IN_NETNS(one_descriptor_is_left)
{
	Neighbour	everybody = {.address = "::", .listens = true};
	Ports		all = ports_from_to(40100, 40163);

	skip_without_ipv6();
	hold_ports(&everybody, &all);
	leave_in_time_wait(40200, 40263);
	leave_descriptors(1);
	for (int i = 0; i < 6; i++)
	{
		int			port_min = 40000 + i / 2 * 100;
		int			pid;

		now_doing("%s, ports from %d", kinds[i % 2]->name, port_min);
		set_port_range(port_min, port_min + 63);
		pid = fork_child();
		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		/* The first call of a process, and later ones, read the range. */
		for (int round = 0; round < 3; round++)
		{
			Call		call = open_socket(kinds[i % 2], NULL);

			if (port_min == 40100 && i % 2 == 0)
			{
				expect_failed(&call, EADDRINUSE);
				expect_in(call.report.message, "64 in use: 64 listeners");
				continue;
			}
			require(call.returned == 0, "%s", call.report.message);
			expect_equal(call.report.origin, port_min == 40200 && i % 2 == 0 ?
						 IC_LISTENER_PORT_ORIGIN_REUSED :
						 IC_LISTENER_PORT_ORIGIN_FREE);
			close(call.fd);
		}
		_exit(0);
	}
}

/*
 * Neither sock_diag nor /proc can be asked. A port is named if this process
 * has read before that none is reserved.
 */
TEST_IN_NETNS(a_connection_with_the_last_descriptor)
{
	static const struct
	{
		const char *reserved;
		bool		has_read;
		int			error;
	}			cases[] = {
		{"", true, 0},
		{"", false, EADDRNOTAVAIL},
		{"40001", true, EADDRNOTAVAIL},
	};

	crowd(40000, 40031);
	server_on("127.0.0.1", 30000);
	server_on("127.0.0.1", 30001);
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		now_doing("reserved: \"%s\", read: %d", cases[i].reserved, cases[i].has_read);
		set_sysctl("net.ipv4.ip_local_reserved_ports", "%s\n", cases[i].reserved);
		if (fork_child() == 0)
		{
			int			before = stream_socket("127.0.0.1");
			int			fd = stream_socket("127.0.0.1");

			if (cases[i].has_read)
				expect_equal(ic_connect(before, "127.0.0.1", 30001, NULL), 0);
			leave_descriptors(0);
			expect_equal(ic_connect(fd, "127.0.0.1", 30000, NULL), cases[i].error);
			expect_equal(has_no_port(fd), cases[i].error != 0);
			_exit(0);
		}
		expect(wait(NULL) > 0);
	}
}

/* Also where sockets are spent: a new one comes after the old one. */
TEST_IN_NETNS(one_descriptor_is_left_and_one_port)
{
	set_port_range(PORT_MIN, SMALL_MAX);
	permitted_late = PERMITTED;
	leave_descriptors(1);
	for_each_kind(kind)
	{
		Call		call = open_socket(kind, NULL);

		require(call.returned == 0, "%s: %s", kind->name, call.report.message);
		expect_equal(call.port, PERMITTED);
		close(call.fd);
	}
}

static int
run_policies(void)
{
	return run_all(
		test(only_port_0_is_permitted),
		test(only_names_are_permitted),
		test(only_one_name_is_permitted),
		test(every_port_is_forbidden),
		test(a_hook_changes_the_port),
		test(a_hook_denies_what_is_bound),
		test(a_hook_leaves_bound_what_it_denies),
		test(a_hook_permits_port_0_only),
		test(a_hook_permits_names_only),
		test(a_hook_forbids_ipv6));
}

int
main(void)
{
	int			failed = run_policies();

	no_windows = true;
	failed += run_policies();
	no_windows = false;
	return failed + run_all(
		test(ipv6_only_may_not_be_cleared),
		test(no_descriptor_is_left),
		test(one_descriptor_is_left),
		test(a_connection_with_the_last_descriptor),
		test(one_descriptor_is_left_and_one_port));
}
