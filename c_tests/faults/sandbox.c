/*
 * sandbox.c
 *		Policies around the process: Landlock, programs of a cgroup,
 *		seccomp filters. They refuse some ports, or all names, or a family,
 *		with other errnos. Or they change the port.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

#define PORT_MIN 40000
#define SMALL_MAX 40063
#define LARGE_MAX 40999

/* ip(7), Linux 6.3. */
#define IP_LOCAL_PORT_RANGE 51

/*
 * The linker's --wrap leads these through here.
 */
extern int	__real_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__wrap_bind(int fd, const struct sockaddr *address,
						socklen_t length);
extern int	__real_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t length);
extern int	__wrap_setsockopt(int fd, int level, int name, const void *value,
							  socklen_t length);

static int	bind_calls;
static bool no_windows;			/* as before Linux 6.3 */
static bool denied_late;		/* bound, and then EPERM */
static int	permitted_late;		/* except this port */

int
__wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	bind_calls++;
	if (__real_bind(fd, address, length) != 0)
		return -1;
	if (!denied_late || local_port(fd) == permitted_late)
		return 0;
	errno = EPERM;
	return -1;
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value,
				  socklen_t length)
{
	if (no_windows && level == IPPROTO_IP && name == IP_LOCAL_PORT_RANGE)
	{
		errno = ENOPROTOOPT;
		return -1;
	}
	return __real_setsockopt(fd, level, name, value, length);
}

/* Each with windows and without them. */
static void
with_and_without_windows(void (*body) (void))
{
	for (int without = 0; without <= 1; without++)
	{
		int			pid = fork_child();

		if (pid == 0)
		{
			now_doing(without ? "without windows" : "with windows");
			no_windows = without;
			body();
			_exit(0);
		}
		wait_for_child(pid);
	}
}

/*
 * From now on bind() may use these TCP ports only; 0 asks the kernel to pick.
 * linux/landlock.h of many distributions lacks the rules for ports.
 */
static void
permit_ports(const int *ports, int count)
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
	ruleset = syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled),
					  0);
	require(ruleset >= 0, "landlock_create_ruleset: %s", strerror(errno));
	for (int index = 0; index < count; index++)
	{
		const struct
		{
			uint64_t	access;
			uint64_t	port;
		}			rule = {1, ports[index]};

		require(syscall(SYS_landlock_add_rule, ruleset, 2, &rule, 0) == 0,
				"landlock_add_rule: %s", strerror(errno));
	}
	require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "prctl: %s",
			strerror(errno));
	require(syscall(SYS_landlock_restrict_self, ruleset, 0) == 0,
			"landlock_restrict_self: %s", strerror(errno));
	close(ruleset);
}

static void
listen_where_only_port_0_is_permitted(void)
{
	const int	only[] = {0};

	set_port_range(PORT_MIN, LARGE_MAX);
	permit_ports(only, 1);
	for (int round = 0; round < 10; round++)
	{
		Call		call;

		bind_calls = 0;
		call = require_listener(NULL);
		expect(PORT_MIN <= call.port && call.port <= LARGE_MAX);
		expect_equal(call.port, local_port(call.fd));
		/* A policy is not asked a thousand times. */
		require(bind_calls <= 34, "%d times bind()", bind_calls);
	}
}

TEST_IN_NETNS(only_port_0_is_permitted)
{
	with_and_without_windows(listen_where_only_port_0_is_permitted);
}

static void
listen_where_port_0_is_forbidden(void)
{
	Ports		taken;
	Call		last;
	int			permitted[SMALL_MAX - PORT_MIN + 1];
	const int	ports = lengthof(permitted);

	for (int index = 0; index < ports; index++)
		permitted[index] = PORT_MIN + index;
	set_port_range(PORT_MIN, SMALL_MAX);
	permit_ports(permitted, ports);
	expect_equal(take_all_ports(NULL, &taken, &last), ports);
}

TEST_IN_NETNS(port_0_is_forbidden)
{
	with_and_without_windows(listen_where_port_0_is_forbidden);
}

static void
listen_on_the_only_name(void)
{
	const int	only[] = {PORT_MIN + 777};
	Call		call;

	set_port_range(PORT_MIN, LARGE_MAX);
	permit_ports(only, 1);
	call = require_listener(NULL);
	expect_equal(call.port, only[0]);

	/* It is in use, and the others are forbidden. */
	call = open_listener(NULL);
	expect_failed(&call, EADDRINUSE);
	expect_equal(call.report.ports_in_use, 1);
	expect_equal(call.report.ports_forbidden, LARGE_MAX - PORT_MIN);
	expect_in(call.report.message,
			  "1000 tried, 1 in use, 999 forbidden");
}

TEST_IN_NETNS(only_one_name_is_permitted)
{
	with_and_without_windows(listen_on_the_only_name);
}

static void
find_all_ports_forbidden(void)
{
	Call		call;

	set_port_range(PORT_MIN, LARGE_MAX);
	permit_ports(NULL, 0);
	call = open_listener(NULL);
	expect_failed(&call, EACCES);
	expect_equal(call.report.step, IC_LISTENER_STEP_BIND);
	expect_equal(call.report.ports_forbidden, LARGE_MAX - PORT_MIN + 1);
	expect_in(call.report.message, "no port to listen on in 40000-40999: "
			  "1000 tried, 1000 forbidden");
}

TEST_IN_NETNS(every_port_is_forbidden)
{
	with_and_without_windows(find_all_ports_forbidden);
}

/* Named ports are not exchanged for what the kernel would pick. */
TEST_IN_NETNS(named_ports_are_forbidden)
{
	const int	only[] = {0};
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;
	Call		call;

	permit_ports(only, 1);
	options.port_min = PORT_MIN;
	options.port_max = SMALL_MAX;
	call = open_listener(&options);
	expect_failed(&call, EACCES);
	expect_equal(call.report.ports_forbidden, SMALL_MAX - PORT_MIN + 1);
}

/* Programs of a cgroup: the child's own group, which ends with it. */
#define INSN(operation, dst, src, offset, immediate) \
	((struct bpf_insn) {(operation), (dst), (src), (offset), (immediate)})
#define RETURN INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define RESULT(value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, (value))
#define LOAD(offset) INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 1, (offset), 0)
#define SKIP_UNLESS(value) INSN(BPF_JMP | BPF_JEQ | BPF_K, 2, 0, 1, (value))

static void
attach(int cgroup, enum bpf_prog_type type, enum bpf_attach_type place,
	   const struct bpf_insn *code, int length)
{
	union bpf_attr load;
	union bpf_attr attachment;
	char		log[4096] = "";
	int			program;

	memset(&load, 0, sizeof(load));
	load.prog_type = type;
	load.expected_attach_type = place;
	load.insns = (uintptr_t) code;
	load.insn_cnt = length;
	load.license = (uintptr_t) "GPL";
	load.log_level = 1;
	load.log_buf = (uintptr_t) log;
	load.log_size = sizeof(log);
	program = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	if (program < 0 && log[0] == '\0')
		skip_child("programs of cgroups (bpf: %s): run as root, on a kernel "
				   "with CONFIG_CGROUP_BPF", strerror(errno));
	require(program >= 0, "the program is refused: %.300s", log);

	memset(&attachment, 0, sizeof(attachment));
	attachment.target_fd = cgroup;
	attachment.attach_bpf_fd = program;
	attachment.attach_type = place;
	require(syscall(SYS_bpf, BPF_PROG_ATTACH, &attachment,
					sizeof(attachment)) == 0, "attach: %s", strerror(errno));
	close(program);
}

/* Each family has its own hooks. */
typedef struct Policy
{
	enum bpf_prog_type type;
	enum bpf_attach_type places[2];
	const struct bpf_insn *code;
	int			length;
} Policy;

#define POLICY(hook, program) { \
	.type = hook, \
	.places = { \
		(hook) == BPF_PROG_TYPE_CGROUP_SOCK ? BPF_CGROUP_INET4_POST_BIND : \
			BPF_CGROUP_INET4_BIND, \
		(hook) == BPF_PROG_TYPE_CGROUP_SOCK ? BPF_CGROUP_INET6_POST_BIND : \
			BPF_CGROUP_INET6_BIND, \
	}, \
	.code = program, .length = lengthof(program), \
}

/* With windows and without them. */
static void
in_cgroup(const Policy *policy, void (*body) (void))
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
	snprintf(group, sizeof(group), "%s/ic_listener_test_%d", root,
			 (int) getpid());
	require(mkdir(group, 0700) == 0, "%s: %s", group, strerror(errno));
	pid = fork_child();
	if (pid == 0)
	{
		char		file[192];
		int			directory = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int			members;

		for (int family = 0; family < 2; family++)
			attach(directory, policy->type, policy->places[family],
				   policy->code, policy->length);
		close(directory);
		snprintf(file, sizeof(file), "%s/cgroup.procs", group);
		members = open(file, O_WRONLY | O_CLOEXEC);
		require(write(members, "0", 1) == 1, "%s: %s", file, strerror(errno));
		close(members);
		with_and_without_windows(body);
		_exit(0);
	}
	require(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	rmdir(group);
	umount2(root, MNT_DETACH);
	rmdir(root);
	if (status != 0)
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

#define USER_PORT offsetof(struct bpf_sock_addr, user_port)

#define REWRITTEN 45678

static void
get_the_port_it_is(void)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	set_port_range(PORT_MIN, LARGE_MAX);
	for_each_kind(kind)
	{
		for (int named = 0; named <= 1; named++)
		{
			Call		call;

			now_doing("%s, named %d", kind->name, named);
			options.port_min = named ? 7000 : 0;
			options.port_max = named ? 7099 : 0;
			call = open_socket(kind, &options);
			require(call.returned == 0, "%s", call.report.message);
			expect_equal(call.port, REWRITTEN);
			expect_equal(call.port, local_port(call.fd));
			close(call.fd);
		}
	}
}

TEST_IN_NETNS(a_hook_changes_the_port)
{
	const struct bpf_insn rewrite[] = {
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, htons(REWRITTEN)),
		INSN(BPF_STX | BPF_MEM | BPF_W, 1, 2, USER_PORT, 0),
		RESULT(1),
		RETURN,
	};
	const Policy policy = POLICY(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, rewrite);

	in_cgroup(&policy, get_the_port_it_is);
}

/* The kernel says EPERM, where Landlock says EACCES. UDP has the hooks too. */
static void
open_both_kinds(void)
{
	set_port_range(PORT_MIN, SMALL_MAX);
	for_each_kind(kind)
	{
		Call		call;

		now_doing("%s, windows %d", kind->name, !no_windows);
		call = open_socket(kind, NULL);
		require(call.returned == 0, "%s", call.report.message);
		expect(PORT_MIN <= call.port && call.port <= SMALL_MAX);
		expect_equal(call.port, local_port(call.fd));
	}
}

TEST_IN_NETNS(a_hook_permits_port_0_only)
{
	const struct bpf_insn only_0[] = {
		LOAD(USER_PORT),
		RESULT(1),
		SKIP_UNLESS(0),
		RESULT(0),
		RETURN,
	};
	const Policy policy = POLICY(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, only_0);

	in_cgroup(&policy, open_both_kinds);
}

TEST_IN_NETNS(a_hook_permits_names_only)
{
	const struct bpf_insn not_0[] = {
		LOAD(USER_PORT),
		RESULT(0),
		SKIP_UNLESS(0),
		RESULT(1),
		RETURN,
	};
	const Policy policy = POLICY(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, not_0);

	in_cgroup(&policy, open_both_kinds);
}

static void
open_on_ipv4(void)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	set_port_range(PORT_MIN, SMALL_MAX);
	for_each_kind(kind)
	{
		Call		call;

		now_doing("%s, windows %d", kind->name, !no_windows);
		call = open_socket(kind, NULL);
		require(call.returned == 0, "%s", call.report.message);
		expect_equal(call.report.family, AF_INET);
		reach(call.fd, "127.0.0.1");

		/* A caller who asks for IPv6 by its address gets no IPv4 instead. */
		options.address = "::";
		call = open_socket(kind, &options);
		expect_failed(&call, EACCES);
		expect_equal(call.report.family, AF_INET6);
	}
}

/* SocketBindDeny=ipv6 of systemd. */
TEST_IN_NETNS(a_hook_forbids_ipv6)
{
	const struct bpf_insn only_ipv4[] = {
		LOAD(offsetof(struct bpf_sock_addr, user_family)),
		RESULT(1),
		SKIP_UNLESS(AF_INET),
		RESULT(0),
		RETURN,
	};
	const Policy policy = POLICY(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, only_ipv4);

	in_cgroup(&policy, open_on_ipv4);
}

/*
 * Ports that are refused after they were bound. Linux 5.10 to 5.16 leave the
 * socket bound; elsewhere that is simulated.
 */
#define PERMITTED (PORT_MIN + 17)

static void
open_where_one_port_is_left(void)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	set_port_range(PORT_MIN, SMALL_MAX);
	for_each_kind(kind)
	{
		for (int named = 0; named <= 1; named++)
		{
			OpenFds		before = open_fds();
			Call		call;

			now_doing("%s, named %d, windows %d", kind->name, named,
					  !no_windows);
			options.port_min = named ? PORT_MIN : 0;
			options.port_max = named ? SMALL_MAX : 0;
			call = open_socket(kind, &options);
			require(call.returned == 0, "%s", call.report.message);
			expect_equal(call.port, PERMITTED);
			expect(open_fds_are(&before, call.fd));

			/* It is taken, and the rest refused. */
			before = open_fds();
			close(open_socket(kind, &options).fd);
			expect(open_fds_are(&before, -1));
			expect_equal(open_socket(kind, &options).error, EADDRINUSE);
			close(call.fd);
		}
	}
}

TEST_IN_NETNS(a_hook_denies_what_is_bound)
{
	const struct bpf_insn one_port[] = {
		LOAD(offsetof(struct bpf_sock, src_port)),
		RESULT(1),
		SKIP_UNLESS(PERMITTED),
		RESULT(0),
		RETURN,
	};
	const Policy policy = POLICY(BPF_PROG_TYPE_CGROUP_SOCK, one_port);

	in_cgroup(&policy, open_where_one_port_is_left);
}

TEST_IN_NETNS(a_hook_leaves_bound_what_it_denies)
{
	denied_late = true;
	permitted_late = PERMITTED;
	with_and_without_windows(open_where_one_port_is_left);
}

/* A caller's own socket that connects from a port that is named for it. */
TEST_IN_NETNS(a_hook_leaves_bound_what_connect_named)
{
	Neighbour	server = {.address = "127.0.0.1", .listens = true};
	Neighbour	other = {
		.address = "127.0.0.1", .reuse_address = true, .listens = true
	};
	struct sockaddr_storage to;
	socklen_t	length = socket_address("127.0.0.1", 7000, &to);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	set_port_range(PORT_MIN, PORT_MIN + 15);
	expect(open_neighbour(&server, 7000) >= 0);
	/* TIME_WAITs that connect() passes over, and naming gets. */
	for (int port = PORT_MIN; port <= PORT_MIN + 15; port++)
	{
		int			listener = open_neighbour(&other, port);

		leave_time_wait(listener, "127.0.0.1");
		close(listener);
	}
	denied_late = true;
	permitted_late = PORT_MIN + 7;
	expect(ic_listener_connect(fd, (struct sockaddr *) &to, length,
							   NULL) == 0);
	expect_equal(local_port(fd), PORT_MIN + 7);
}

/* The errnos of the kernel, and of policies in its place. */
static const int no_family[] = {
	EAFNOSUPPORT, EPERM, EACCES, EPROTONOSUPPORT, EOPNOTSUPP, ENOSYS,
	EPFNOSUPPORT, ESOCKTNOSUPPORT, EINVAL,
};

TEST_IN_NETNS(ipv6_is_refused_in_any_word)
{
	for (size_t index = 0; index < lengthof(no_family); index++)
	{
		int			pid = fork_child();

		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		refuse_call(SYS_socket, 0, AF_INET6, no_family[index]);
		for_each_kind(kind)
		{
			Call		call;

			now_doing("%s, %s", kind->name, strerror(no_family[index]));
			call = open_socket(kind, NULL);
			require(call.returned == 0, "%s", call.report.message);
			expect_equal(call.report.family, AF_INET);
		}
		_exit(0);
	}
}

/* Too few descriptors, or too little memory, is no lack of IPv6. */
TEST_IN_NETNS(ipv6_is_not_given_up_for_want_of_anything_else)
{
	const int	wants[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};

	for (size_t index = 0; index < lengthof(wants); index++)
	{
		int			pid = fork_child();

		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		refuse_call(SYS_socket, 0, AF_INET6, wants[index]);
		for_each_kind(kind)
		{
			Call		call = open_socket(kind, NULL);

			now_doing("%s, %s", kind->name, strerror(wants[index]));
			expect_failed(&call, wants[index]);
			expect_equal(call.report.step, IC_LISTENER_STEP_SOCKET);
		}
		_exit(0);
	}
}

TEST_IN_NETNS(ipv6_only_may_not_be_cleared)
{
	const int	words[] = {ENOPROTOOPT, EINVAL, EPERM, EACCES, ENOSYS};

	skip_without_ipv6();
	for (size_t index = 0; index < lengthof(words); index++)
	{
		int			pid = fork_child();

		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		refuse_call(SYS_setsockopt, 2, IPV6_V6ONLY, words[index]);
		for_each_kind(kind)
		{
			Call		call;

			/* It is clear. */
			now_doing("%s, %s", kind->name, strerror(words[index]));
			set_bindv6only(false);
			call = open_socket(kind, NULL);
			require(call.returned == 0, "%s", call.report.message);
			expect_equal(call.report.family, AF_INET6);
			reach(call.fd, "127.0.0.1");

			/* It is set, and the socket would take no IPv4. */
			set_bindv6only(true);
			call = open_socket(kind, NULL);
			expect_failed(&call, words[index]);
			expect_equal(call.report.step, IC_LISTENER_STEP_SETSOCKOPT);
		}
		_exit(0);
	}
}

/*
 * A filter may give any errno (SystemCallErrorNumber= of systemd takes each by
 * its name). The message has the usual words for all of them.
 */
TEST(every_errno_has_words)
{
	IcListenerOptions options = IC_LISTENER_OPTIONS_INIT;

	options.address = "127.0.0.1";
	for (int error = 1; error <= 133; error++)
	{
		int			pid;
		char		expected[128];
		Call		call;

		/* Numbers that Linux does not have. */
		if (strncmp(strerror(error), "Unknown error", 13) == 0)
			continue;
		pid = fork_child();
		if (pid != 0)
		{
			wait_for_child(pid);
			continue;
		}
		refuse_call(SYS_socket, 0, AF_INET, error);
		call = open_listener(&options);
		expect_failed(&call, error);
		snprintf(expected, sizeof(expected), "socket: %s", strerror(error));
		require(strcmp(call.report.message, expected) == 0,
				"\"%s\", not \"%s\"", call.report.message, expected);
		_exit(0);
	}
}

int
main(void)
{
	return run_all(
		test(only_port_0_is_permitted),
		test(port_0_is_forbidden),
		test(only_one_name_is_permitted),
		test(every_port_is_forbidden),
		test(named_ports_are_forbidden),
		test(a_hook_changes_the_port),
		test(a_hook_permits_port_0_only),
		test(a_hook_permits_names_only),
		test(a_hook_forbids_ipv6),
		test(a_hook_denies_what_is_bound),
		test(a_hook_leaves_bound_what_it_denies),
		test(a_hook_leaves_bound_what_connect_named),
		test(ipv6_is_refused_in_any_word),
		test(ipv6_is_not_given_up_for_want_of_anything_else),
		test(ipv6_only_may_not_be_cleared),
		test(every_errno_has_words));
}
