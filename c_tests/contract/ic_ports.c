/*
 * ic_ports.c
 *		The program for operators: what it prints, how many ports it says
 *		are left, its exit status, and that it leaves nothing behind.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

#define PORT_MIN 40000
#define PORT_MAX 40063
#define PORTS (PORT_MAX - PORT_MIN + 1)

/* Tests run in the top directory. */
#ifndef PROGRAM
#define PROGRAM "target/bin/ic_ports"
#endif

/* What one run gave. */
typedef struct Run
{
	int			status;
	char		output[16384];
	char		errors[4096];
} Run;

static void
read_all(int fd, char *text, size_t size)
{
	size_t		length = 0;
	ssize_t		more;

	while ((more = read(fd, text + length, size - 1 - length)) > 0)
		length += more;
	text[length] = '\0';
	close(fd);
}

#define MAX_ARGUMENTS 8

static Run
run(const char *const *arguments)
{
	static char program[] = PROGRAM;
	char	   *argv[MAX_ARGUMENTS + 2] = {program};
	int			output[2];
	int			errors[2];
	Run			result;
	int			status;
	int			pid;

	for (int i = 0; arguments[i] != NULL; i++)
		argv[i + 1] = strdup(arguments[i]);
	require(pipe2(output, O_CLOEXEC) == 0 && pipe2(errors, O_CLOEXEC) == 0,
			"pipe: %s", strerror(errno));
	pid = fork_child();
	if (pid == 0)
	{
		dup2(output[1], STDOUT_FILENO);
		dup2(errors[1], STDERR_FILENO);
		execv(program, argv);
		skip_child("%s: make", program);
	}
	close(output[1]);
	close(errors[1]);
	read_all(output[0], result.output, sizeof(result.output));
	read_all(errors[0], result.errors, sizeof(result.errors));
	expect(waitpid(pid, &status, 0) == pid);
	require(WIFEXITED(status), "ended with status 0x%x: %s", status,
			result.errors);
	result.status = WEXITSTATUS(status);
	if (result.status == 77)
		_exit(77);				/* the SKIP above */
	return result;
}

#define RUN(...) run((const char *const[]) {__VA_ARGS__, NULL})
#define RUN_PLAIN() run((const char *const[]) {NULL})

/* A holder of a port, in this process. */
static int
hold(int port, bool reuse_address, bool listens)
{
	Neighbour	neighbour = {
		.address = "0.0.0.0",.reuse_address = reuse_address,
		.listens = listens
	};
	int			fd = open_neighbour(&neighbour, port);

	require(fd >= 0, "port %d: %s", port, strerror(errno));
	return fd;
}

/* In TIME_WAIT, with SO_REUSEADDR or not. */
static void
leave_port_in_time_wait(int port, bool reuse_address)
{
	int			listener = hold(port, reuse_address, true);

	leave_time_wait(listener, "127.0.0.1");
	close(listener);
}

static Run
expect_status(Run result, int status)
{
	require(result.status == status, "status %d: %s%s", result.status,
			result.output, result.errors);
	return result;
}

/* Some of everything: ports that are free, shareable, or neither. */
static void
fill_range(void)
{
	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40060-40063,50000");
	for (int i = 0; i < 20; i++)
		leave_port_in_time_wait(i < 10 ? PORT_MIN + i : 40040 + i, true);
	for (int i = 20; i < 25; i++)
		leave_port_in_time_wait(PORT_MIN + i, false);
	for (int i = 25; i < 28; i++)
		hold(PORT_MIN + i, true, false);
	for (int i = 28; i < 30; i++)
		hold(PORT_MIN + i, false, false);
	for (int i = 30; i < 31; i++)
		hold(PORT_MIN + i, true, true);
	hold(40060, true, true);

	/* A peer that takes the connection. */
	set_sysctl("net.ipv4.ip_unprivileged_port_start", "0");
	hold(1, true, true);
}

TEST_IN_NETNS(the_verdict_is_what_can_be_had)
{
	IcListenerCensus before = IC_LISTENER_CENSUS_INIT;
	IcListenerCensus after = IC_LISTENER_CENSUS_INIT;
	Run			result;
	int			had = 0;

	fill_range();
	expect_equal(ic_listener_census(NULL, &before), 0);
	result = expect_status(RUN_PLAIN(), 0);
	expect(strlen(result.errors) == 0);
	expect_in(result.output,
			  "ports       40000-40063 (net.ipv4.ip_local_port_range), "
			  "4 of them reserved\n"
			  "address     all of this host\n");
	expect_in(result.output, "\n         1  listeners\n");
	expect_in(result.output, "\n        25  TIME_WAIT, the next is free in ");
	expect_in(result.output, "\n\na listener can be opened: "
			  "yes, 29 free, 23 by sharing\n"
			  "a connection can be made: yes\n");

	/* It left nothing behind. */
	expect_equal(ic_listener_census(NULL, &after), 0);
	expect_equal(after.holders.time_wait, before.holders.time_wait);
	expect_equal(after.holders.listening, before.holders.listening);
	expect_equal(after.holders.bound, before.holders.bound);
	expect_equal(after.holders.unseen, before.holders.unseen);

	/* As many listeners as were promised, and no more. */
	while (open_listener(NULL).returned == 0)
		had++;
	expect_equal(had, 29 + 23);
	result = expect_status(RUN_PLAIN(), 1);
	expect_in(result.output, "\na listener can be opened: no, no port to listen "
			  "on in 40000-40063: 60 tried, 60 in use\n");
}

TEST_IN_NETNS(options_choose_the_ports_and_the_address)
{
	Run			result;

	fill_range();
	result = expect_status(RUN("-p", "40028-40031"), 0);
	expect_in(result.output, "ports       40028-40031\n");
	expect_in(result.output, "can be opened: yes, 1 free, 0 by sharing\n");
	require(strstr(result.output, "a connection") == NULL, "%s",
			result.output);
	result = expect_status(RUN("--ports", "40030"), 1);
	expect_in(result.output, "no port to listen on in 40030-40030: "
			  "1 tried, 1 in use");
	result = expect_status(RUN("--ports=40060-40061", "--address=::1"), 0);
	expect_in(result.output, "address     ::1\n");
	expect_in(result.output, "can be opened: yes, 2 free, 0 by sharing\n");
	result = expect_status(RUN("-a", "192.0.2.1"), 1);
	expect_in(result.output, "no, 192.0.2.1 is not an address of this host");
}

/* A member of the JSON object, or -1. */
static int
number_of(const char *json, const char *name)
{
	const char *at = strstr(json, name);
	int			number = -1;

	if (at != NULL)
		sscanf(at + strlen(name), "\": %d", &number);
	return number;
}

TEST_IN_NETNS(json_has_it_all)
{
	Run			result;

	fill_range();
	result = expect_status(RUN("--json"), 0);
	expect_in(result.output, "{\n  \"address\": null,\n  \"range\": {\n"
			  "    \"min\": 40000,\n    \"max\": 40063,\n"
			  "    \"ports\": 60,\n    \"reserved\": 4,\n"
			  "    \"named\": false\n  },\n");
	expect_in(result.output, "    \"listening\": 1,\n");
	expect_in(result.output, "    \"time_wait\": 25,\n");
	require(number_of(result.output, "time_wait_next_s") >= 30 &&
			number_of(result.output, "time_wait_last_s") <= 60, "%s",
			result.output);
	expect_in(result.output, "  \"holders_error\": null,\n");
	expect_in(result.output, "    \"not_seen\": 0\n");
	expect_in(result.output, "  \"listener\": {\n    \"answer\": \"yes\",\n"
			  "    \"free\": 29,\n    \"by_sharing\": 23\n  },\n");
	expect_in(result.output, "  \"connection\": {\n    \"connect\": {\n"
			  "      \"answer\": \"yes\"\n    },\n"
			  "    \"ic_listener_connect\": {\n"
			  "      \"answer\": \"yes\"\n    }\n  }\n}\n");

	/* What a monitor adds up is a number also when nothing is left. */
	result = expect_status(RUN("-j", "-p", "40030"), 1);
	expect_in(result.output, "  \"listener\": {\n    \"answer\": \"no\",\n"
			  "    \"reason\": \"no port to listen on in ");
	expect_equal(number_of(result.output, "free"), 0);
	expect_equal(number_of(result.output, "by_sharing"), 0);
	expect_in(result.output, "  \"connection\": null\n");
}

#define SERVER 5000

/*
 * A connection to a port of 127.0.0.1: from a port that connect() chooses, or
 * from one that bind() names.
 */
static void
connect_from(int port, bool reuse_address, int to)
{
	Neighbour	neighbour = {.address = "127.0.0.1",.reuse_address = true};
	int			fd;

	if (port != 0)
		fd = open_neighbour(&neighbour, port);
	else
	{
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR,
				   &(int) {reuse_address}, sizeof(int));
	}
	require(fd >= 0, "port %d: %s", port, strerror(errno));
	connect_to(fd, "127.0.0.1", to);
}

static void
expect_left(const char *to, int status, int by_connect, int by_name)
{
	char		expected[128];
	Run			result;

	now_doing("--to %s", to);
	result = expect_status(RUN("--to", to), status);
	snprintf(expected, sizeof(expected), "\nports left  by\n"
			 "%10d  connect()\n%10d  bind() by name, as ",
			 by_connect, by_name);
	expect_in(result.output, expected);
	result = expect_status(RUN("--json", "--to", to), status);
	require(number_of(result.output, "by_connect") == by_connect &&
			number_of(result.output, "by_name") == by_name, "%s",
			result.output);
}

/*
 * connect() passes over ports that bind() has given out, and bind() by name
 * finds no port that a holder does not share.
 */
TEST_IN_NETNS(ports_are_left_towards_a_destination)
{
	Run			result;
	int			server;

	server = server_on("127.0.0.1", SERVER);
	for (int i = 1; i < 3; i++)
		server_on("127.0.0.1", SERVER + i);
	/* Its client is no destination. */
	hold(PORT_MIN, true, true);
	connect_from(30000, true, PORT_MIN);
	for (int i = 0; i < 8; i++)
		connect_from(PORT_MAX - i, true, SERVER + 1);
	/* Elsewhere, because connect() may choose one port for both. */
	set_port_range(PORT_MIN + 1, PORT_MIN + 2);
	for (int i = 0; i < 2; i++)
		connect_from(0, false, SERVER + 2);
	set_port_range(PORT_MIN + 3, PORT_MAX);
	for (int i = 0; i < 30; i++)
		connect_from(0, true, SERVER);
	set_port_range(PORT_MIN, PORT_MAX);

	result = expect_status(RUN_PLAIN(), 0);
	expect_in(result.output, "\n connected   TIME_WAIT  to\n"
			  "        30           0  127.0.0.1:5000\n"
			  "         8           0  127.0.0.1:5001\n"
			  "         2           0  127.0.0.1:5002\n\n");
	result = expect_status(RUN("--json"), 0);
	expect_in(result.output, "\"more\": 0\n");
	expect_in(result.output, "\"port\": 5001,\n        \"connections\": 8,\n"
			  "        \"time_wait\": 0\n");
	result = expect_status(RUN("--address", "127.0.0.2"), 0);
	require(strstr(result.output, "127.0.0.1:5000") == NULL, "%s",
			result.output);

	result = expect_status(RUN("--to", "127.0.0.1:5000"), 0);
	expect_in(result.output, "to          127.0.0.1:5000\n"
			  "from        127.0.0.1\n"
			  "ports       40000-40063 (net.ipv4.ip_local_port_range), "
			  "0 of them reserved\n"
			  "connections 30, and 0 in TIME_WAIT\n");
	expect_in(result.output, "\na connection can be made: yes\n");
	expect_left("127.0.0.1:5000", 0, 64 - 30 - 8 - 1, 64 - 30 - 2 - 1);
	expect_left("127.0.0.1:5001", 0, 64 - 8 - 1, 64 - 8 - 2 - 1);
	expect_left("127.0.0.1:5003", 0, 64 - 8 - 1, 64 - 2 - 1);
	result = expect_status(RUN("--to", "127.0.0.1:5000", "-a", "127.0.0.2"), 0);
	expect_in(result.output, "from        127.0.0.2\n");
	expect_in(result.output, "\nconnections 0, and 0 in TIME_WAIT\n\n"
			  "ports left  by\n        55  connect()\n"
			  "        63  bind() by name, as ");

	/* The server was told of no connection but ours. */
	fcntl(server, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 30; i++)
		accept_from(server);
	expect(accept(server, NULL, NULL) == -1 && errno == EAGAIN);

	/* What is left can be had, and no more. */
	for (int i = 0; i < 25; i++)
		connect_from(0, true, SERVER);
	expect_left("127.0.0.1:5000", 0, 0, 8);
	result = expect_status(RUN("--to", "127.0.0.1:5000"), 0);
	expect_in(result.output, "a connection can be made: yes, by "
			  "ic_listener_connect(); connect() finds no port\n");
	for (int i = 0; i < 8; i++)
		connect_from(PORT_MAX - i, true, SERVER);
	expect_left("127.0.0.1:5000", 1, 0, 0);
	result = expect_status(RUN("--to", "127.0.0.1:5000"), 1);
	expect_in(result.output, "a connection can be made: no, "
			  "no port to connect from\n");
}

/* Then the SYN cannot be held back: a port after the other is not tried. */
TEST_IN_NETNS(ports_are_not_counted_by_connecting)
{
	Run			result;
	int			server;
	int			connections = 0;

	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_fastopen", "0");
	server = server_on("127.0.0.1", SERVER);
	result = expect_status(RUN("--to", "127.0.0.1:5000"), 0);
	expect_in(result.output, "\n         ?  connect()\n");
	result = expect_status(RUN("--to", "127.0.0.1:5000", "-j"), 0);
	expect_in(result.output, "\"by_connect\": null,\n");
	fcntl(server, F_SETFL, O_NONBLOCK);
	while (accept(server, NULL, NULL) >= 0)
		connections++;
	require(connections <= 2 * 4, "%d connections", connections);
}

TEST_IN_NETNS(a_destination_out_of_reach_is_3)
{
	Run			result = expect_status(RUN("--to", "192.0.2.1:80"), 3);

	expect_in(result.output, "from        nowhere: Network is unreachable");
	expect_in(result.output, "a connection can be made: unknown, Network is ");
	result = expect_status(RUN("--to", "192.0.2.1:80", "-j"), 3);
	expect_in(result.output, "  \"from\": null,\n");

	/* Neither is that a lack of ports. */
	result = expect_status(RUN("--to", "127.0.0.1:80", "-a", "192.0.2.1"), 3);
	expect_in(result.output, "\n         ?  connect()\n");
	expect_in(result.output, ": unknown, Cannot assign requested address");
}

TEST_IN_NETNS(the_library_is_checked)
{
	Run			result = expect_status(RUN("--check"), 0);

	expect_in(result.output, "libic_listener_preload.so: not loaded here; ");
	expect_in(result.output, "\nport range: 32768 to 60999, 28232 of them not "
			  "reserved\nconnections: asked for by netlink\n");
	expect_in(result.output, "\na port in TIME_WAIT: listened on and connected "
			  "from again\n");

	/* Also where every port has its holder. */
	crowd(PORT_MIN, PORT_MAX);
	expect_status(RUN("--check"), 0);

	refuse_call(SYS_socket, 0, AF_UNIX, EPERM);
	result = expect_status(RUN("--check"), 0);
	expect_in(result.output, "\nclaims: none: Operation not permitted");
	refuse_call(SYS_setsockopt, 2, SO_REUSEADDR, EPERM);
	result = expect_status(RUN("--check"), 1);
	expect_in(result.output, "\na port in TIME_WAIT: ");
	expect_in(result.output, ": Operation not permitted");
}

/* A monitor reads one survey after the other, and ends. */
TEST_IN_NETNS(surveys_are_repeated)
{
	FILE	   *surveys = popen(PROGRAM " --watch 1", "re");
	char		line[256];
	int			verdicts = 0;
	int			status;

	while (verdicts < 2 && fgets(line, sizeof(line), surveys) != NULL)
		verdicts += strncmp(line, "a listener can be opened: yes",
							strlen("a listener can be opened: yes")) == 0;
	if (verdicts == 0 && access(PROGRAM, X_OK) != 0)
		skip_child("%s: make", PROGRAM);
	expect_equal(verdicts, 2);
	status = pclose(surveys);
	expect(WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

/* The greatest holders first. An ordinary user sees only his own processes. */
TEST_IN_NETNS(processes_are_named)
{
	static const int numbers[] = {2, 5, 1};
	Run			result;
	int			pids[lengthof(numbers)];
	int			port = PORT_MIN;
	char		expected[128];
	int			pid;

	set_port_range(PORT_MIN, PORT_MAX);
	for (size_t i = 0; i < lengthof(numbers); i++)
	{
		Neighbour	neighbour = {
			.address = i < 2 ? "::" : "127.0.0.1",.listens = true
		};
		Ports		ports = ports_from_to(port, port + numbers[i] - 1);

		pids[i] = hold_ports(&neighbour, &ports);
		port += numbers[i];
	}
	result = expect_status(RUN_PLAIN(), 0);
	snprintf(expected, sizeof(expected), "\nports held  by process\n"
			 "         5  ic_ports (%d)\n         2  ic_ports (%d)\n"
			 "         1  ic_ports (%d)\n\n", pids[1], pids[0], pids[2]);
	expect_in(result.output, expected);

	/* [::] is in the way of another address, and 127.0.0.1 is not. */
	result = expect_status(RUN("-a", "127.0.0.2"), 0);
	snprintf(expected, sizeof(expected), "\nports held  by process\n"
			 "         5  ic_ports (%d)\n         2  ic_ports (%d)\n\n",
			 pids[1], pids[0]);
	expect_in(result.output, expected);

	/* In a child: those that hold the ports end with a root's process only. */
	pid = fork_child();
	if (pid == 0)
	{
		if (!become_another_user())
			skip_child("another user: run as root");
		result = expect_status(RUN_PLAIN(), 0);
		expect_in(result.output, "\nports held  by process\n"
				  "         8  others that cannot be seen");
		_exit(0);
	}
	wait_for_child(pid);
}

/* The two parts of the answer do not depend on each other. */
TEST_IN_NETNS(what_cannot_be_seen_is_said)
{
	Run			result;

	set_port_range(PORT_MIN, PORT_MAX);
	hold(PORT_MIN, false, true);
	refuse_call(SYS_socket, 0, AF_NETLINK, EPERM);
	result = expect_status(RUN_PLAIN(), 0);
	expect_in(result.output, "\nseen by     /proc/net/tcp\n");
	expect_in(result.output, "\n         1  listeners\n");
	expect_in(result.output, "can be opened: yes, 63 free, 0 by sharing\n");

	enter_mount_namespace();
	mount_empty_over("/proc");
	result = expect_status(RUN("-p", "40000-40001"), 0);
	expect_in(result.output, "who holds the ports cannot be seen: ");
	expect_in(result.output, "a listener can be opened: yes");
	result = expect_status(RUN("-p", "40000", "--json"), 1);
	expect_in(result.output, "  \"holders\": null,\n  \"holders_error\": \"");
}

/* Too few descriptors say nothing about ports. */
TEST_IN_NETNS(what_cannot_be_told_is_3)
{
	Run			result;

	set_port_range(PORT_MIN, PORT_MAX);
	expect_status(RUN_PLAIN(), 0);
	refuse_call(SYS_socket, 1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
				EMFILE);
	result = expect_status(RUN_PLAIN(), 3);
	expect_in(result.output, "a listener can be opened: unknown, socket: "
			  "Too many open files\n");
}

TEST(output_that_is_lost_is_3)
{
	int			status = system(PROGRAM " >/dev/full 2>/dev/null");

	if (WEXITSTATUS(status) == 127)
		skip_child("%s: make", PROGRAM);
	expect_equal(WEXITSTATUS(status), 3);
	status = system(PROGRAM " 2>&1 >&- | grep -qx "
					"'ic_ports: standard output is closed'");
	expect_equal(WEXITSTATUS(status), 0);
	status = system(PROGRAM " >&- 2>/dev/null");
	expect_equal(WEXITSTATUS(status), 3);
	expect_equal(WEXITSTATUS(system(PROGRAM " --version <&- >/dev/null")), 0);
	status = system("bash -c 'set -o pipefail; " PROGRAM
					" | true' 2>/dev/null");
	expect(WEXITSTATUS(status) == 3 || WEXITSTATUS(status) == 0);
}

TEST(bad_arguments_get_a_usage_line_and_2)
{
	static const char *const bad[][3] = {
		{"-x", NULL}, {"--nosuch", NULL}, {"word", NULL}, {"-p", NULL},
		{"-a", NULL}, {"-p", "0-7", NULL}, {"-p", "7-6", NULL},
		{"-p", "1-65536", NULL}, {"-p", "a", NULL}, {"-p", "", NULL},
		{"-p", "1-2-3", NULL}, {"-a", "localhost", NULL}, {"-a", "", NULL},
		{"-a", "224.0.0.1", NULL}, {"-a", "fe80::1", NULL},
		{"--json=yes", NULL}, {"-w", "0", NULL}, {"--to", "5000", NULL},
		{"--to", "127.0.0.1", NULL}, {"--to=127.0.0.1:1", "-p7", NULL},
		{"--to=127.0.0.1:1", "-alocalhost", NULL},
	};

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		Run			result;

		now_doing("%s %s", bad[i][0], bad[i][1]);
		result = expect_status(run(bad[i]), 2);
		expect_equal(strlen(result.output), 0);
		expect(strncmp(result.errors, "ic_ports: ", 10) == 0);
		expect_in(result.errors, "\nusage: ic_ports [-a ADDRESS] "
				  "[-p MIN-MAX] [-j] [-w SECONDS]\n");
	}
}

TEST(help_and_version)
{
	Run			result = expect_status(RUN("--help"), 0);

	expect_in(result.output, "usage: ic_ports [-a ADDRESS] [-p MIN-MAX] "
			  "[-j] [-w SECONDS]\n");
	expect_in(result.output, "exit status: 0 ");
	result = expect_status(RUN("-V"), 0);
	expect(strcmp(result.output, "ic_ports " IC_LISTENER_VERSION "\n") == 0);
}

int
main(void)
{
	return run_all(
		test(the_verdict_is_what_can_be_had),
		test(options_choose_the_ports_and_the_address),
		test(json_has_it_all),
		test(ports_are_left_towards_a_destination),
		test(ports_are_not_counted_by_connecting),
		test(a_destination_out_of_reach_is_3),
		test(the_library_is_checked),
		test(surveys_are_repeated),
		test(processes_are_named),
		test(what_cannot_be_seen_is_said),
		test(what_cannot_be_told_is_3),
		test(output_that_is_lost_is_3),
		test(bad_arguments_get_a_usage_line_and_2),
		test(help_and_version));
}
