/*
 * ic_ports.c
 *		The program for operators: what it prints, how many ports it says
 *		are left, its exit status, and that it leaves nothing behind.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crowded.h"
#include "test.h"

#define PORT_MIN 40000
#define PORT_MAX 40063

/* Tests run in the top directory. */
#ifndef PROGRAM
#define PROGRAM "target/bin/ic_ports"
#endif

/*
 * Runs the program with these arguments and redirections. It must end with
 * that status. Gives its output, until the next call.
 */
static const char *
ic_ports(int status, const char *arguments)
{
	static char output[16384];
	char		command[256];
	FILE	   *program;
	size_t		length;
	int			ended;

	snprintf(command, sizeof(command), PROGRAM " %s", arguments);
	if (access(PROGRAM, X_OK) != 0)
		skip_child("%s: make", PROGRAM);
	fflush(NULL);
	program = popen(command, "re");
	expect(program != NULL);
	length = fread(output, 1, sizeof(output) - 1, program);
	output[length] = '\0';
	ended = pclose(program);
	require(WIFEXITED(ended) && WEXITSTATUS(ended) == status, "%s: status 0x%x: %s",
			command, ended, output);
	return output;
}

static void
expect_not_in(const char *text, const char *part)
{
	require(strstr(text, part) == NULL, "\"%s\" has \"%s\"", text, part);
}

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
	const char *output;
	int			had = 0;

	fill_range();
	expect_equal(ic_listener_census(NULL, &before), 0);
	output = ic_ports(0, "2>&1");
	expect(strncmp(output, "ports ", 6) == 0);
	expect_in(output, "ports       40000-40063 (net.ipv4.ip_local_port_range), "
			  "4 of them reserved\naddress     all of this host\n");
	expect_in(output, "\n         1  listeners\n");
	expect_in(output, "\n        25  TIME_WAIT, the next is free in ");
	expect_in(output, "\n\na listener can be opened: yes, 29 free, 23 by sharing\n"
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
	expect_in(ic_ports(1, ""), "\na listener can be opened: no, no port to listen "
			  "on in 40000-40063: 60 tried, 60 in use\n");
}

TEST_IN_NETNS(options_choose_the_ports_and_the_address)
{
	const char *output;

	fill_range();
	output = ic_ports(0, "-p 40028-40031");
	expect_in(output, "ports       40028-40031\n");
	expect_in(output, "can be opened: yes, 1 free, 0 by sharing\n");
	expect_not_in(output, "a connection");
	expect_in(ic_ports(1, "--ports 40030"),
			  "no port to listen on in 40030-40030: 1 tried, 1 in use");
	output = ic_ports(0, "--ports=40060-40061 --address=::1");
	expect_in(output, "address     ::1\n");
	expect_in(output, "can be opened: yes, 2 free, 0 by sharing\n");
	expect_in(ic_ports(1, "-a 192.0.2.1"), "no, 192.0.2.1 is not an address of this host");
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
	const char *output;

	fill_range();
	output = ic_ports(0, "--json");
	expect_in(output, "{\n  \"address\": null,\n  \"range\": {\n"
			  "    \"min\": 40000,\n    \"max\": 40063,\n"
			  "    \"ports\": 60,\n    \"reserved\": 4,\n"
			  "    \"named\": false\n  },\n");
	expect_in(output, "    \"listening\": 1,\n");
	expect_in(output, "    \"time_wait\": 25,\n");
	expect(number_of(output, "time_wait_next_s") >= 30);
	expect(number_of(output, "time_wait_last_s") <= 60);
	expect_in(output, "  \"holders_error\": null,\n");
	expect_in(output, "    \"not_seen\": 0\n");
	expect_in(output, "  \"listener\": {\n    \"answer\": \"yes\",\n"
			  "    \"free\": 29,\n    \"by_sharing\": 23\n  },\n");
	expect_in(output, "  \"connection\": {\n    \"connect\": {\n"
			  "      \"answer\": \"yes\"\n    },\n"
			  "    \"ic_listener_connect\": {\n"
			  "      \"answer\": \"yes\"\n    }\n  }\n}\n");

	/* What a monitor adds up is a number also when nothing is left. */
	output = ic_ports(1, "-j -p 40030");
	expect_in(output, "  \"listener\": {\n    \"answer\": \"no\",\n"
			  "    \"reason\": \"no port to listen on in ");
	expect_equal(number_of(output, "free"), 0);
	expect_equal(number_of(output, "by_sharing"), 0);
	expect_in(output, "  \"connection\": null\n");
}

#define SERVER 5000

/*
 * A connection to a port of 127.0.0.1: from a port that connect() chooses (0),
 * or from one that bind() names.
 */
static void
connect_from(int port, bool reuse_address, int to)
{
	int			fd = stream_socket("127.0.0.1");

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, reuse_address);
	expect(port == 0 || plain_bind(fd, "127.0.0.1", port) == 0);
	connect_to(fd, "127.0.0.1", to);
}

static void
expect_left(int to, int status, int by_connect, int by_name)
{
	char		arguments[64];
	char		expected[128];
	const char *output;

	snprintf(arguments, sizeof(arguments), "--to 127.0.0.1:%d", to);
	snprintf(expected, sizeof(expected), "\nports left  by\n"
			 "%10d  connect()\n%10d  bind() by name, as ", by_connect, by_name);
	expect_in(ic_ports(status, arguments), expected);
	strcat(arguments, " --json");
	output = ic_ports(status, arguments);
	expect_equal(number_of(output, "by_connect"), by_connect);
	expect_equal(number_of(output, "by_name"), by_name);
}

/*
 * connect() passes over ports that bind() has given out, and bind() by name
 * finds no port that a holder does not share.
 */
TEST_IN_NETNS(ports_are_left_towards_a_destination)
{
	int			server = server_on("127.0.0.1", SERVER);
	const char *output;

	server_on("127.0.0.1", SERVER + 1);
	server_on("127.0.0.1", SERVER + 2);
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

	expect_in(ic_ports(0, ""), "\n connected   TIME_WAIT  to\n"
			  "        30           0  127.0.0.1:5000\n"
			  "         8           0  127.0.0.1:5001\n"
			  "         2           0  127.0.0.1:5002\n\n");
	output = ic_ports(0, "--json");
	expect_in(output, "\"more\": 0\n");
	expect_in(output, "\"port\": 5001,\n        \"connections\": 8,\n"
			  "        \"time_wait\": 0\n");
	expect_not_in(ic_ports(0, "--address 127.0.0.2"), "127.0.0.1:5000");

	output = ic_ports(0, "--to 127.0.0.1:5000");
	expect_in(output, "to          127.0.0.1:5000\nfrom        127.0.0.1\n"
			  "ports       40000-40063 (net.ipv4.ip_local_port_range), "
			  "0 of them reserved\nconnections 30, and 0 in TIME_WAIT\n");
	expect_in(output, "\na connection can be made: yes\n");
	expect_left(SERVER, 0, 64 - 30 - 8 - 1, 64 - 30 - 2 - 1);
	expect_left(SERVER + 1, 0, 64 - 8 - 1, 64 - 8 - 2 - 1);
	expect_left(SERVER + 3, 0, 64 - 8 - 1, 64 - 2 - 1);
	output = ic_ports(0, "--to 127.0.0.1:5000 -a 127.0.0.2");
	expect_in(output, "from        127.0.0.2\n");
	expect_in(output, "\nconnections 0, and 0 in TIME_WAIT\n\n"
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
	expect_left(SERVER, 0, 0, 8);
	expect_in(ic_ports(0, "--to 127.0.0.1:5000"), "a connection can be made: yes, by "
			  "ic_listener_connect(); connect() finds no port\n");
	for (int i = 0; i < 8; i++)
		connect_from(PORT_MAX - i, true, SERVER);
	expect_left(SERVER, 1, 0, 0);
	expect_in(ic_ports(1, "--to 127.0.0.1:5000"), "a connection can be made: no, "
			  "no port to connect from\n");
}

/* Then the SYN cannot be held back: a port after the other is not tried. */
TEST_IN_NETNS(ports_are_not_counted_by_connecting)
{
	int			server;
	int			connections = 0;

	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_fastopen", "0");
	server = server_on("127.0.0.1", SERVER);
	expect_in(ic_ports(0, "--to 127.0.0.1:5000"), "\n         ?  connect()\n");
	expect_in(ic_ports(0, "--to 127.0.0.1:5000 -j"), "\"by_connect\": null,\n");
	fcntl(server, F_SETFL, O_NONBLOCK);
	while (accept(server, NULL, NULL) >= 0)
		connections++;
	require(connections <= 2 * 4, "%d connections", connections);
}

TEST_IN_NETNS(a_destination_out_of_reach_is_3)
{
	const char *output = ic_ports(3, "--to 192.0.2.1:80");

	expect_in(output, "from        nowhere: Network is unreachable");
	expect_in(output, "a connection can be made: unknown, Network is ");
	expect_in(ic_ports(3, "--to 192.0.2.1:80 -j"), "  \"from\": null,\n");

	/* Neither is that a lack of ports. */
	output = ic_ports(3, "--to 127.0.0.1:80 -a 192.0.2.1");
	expect_in(output, "\n         ?  connect()\n");
	expect_in(output, ": unknown, Cannot assign requested address");
}

TEST_IN_NETNS(the_library_is_checked)
{
	const char *output = ic_ports(0, "--check");

	expect_in(output, "libic_listener_preload.so: not loaded here; ");
	expect_in(output, "\nport range: 32768 to 60999, 28232 of them not "
			  "reserved\nconnections: asked for by netlink\n");
	expect_in(output, "\na port in TIME_WAIT: listened on and connected "
			  "from again\n");

	/* Also where every port has its holder. */
	crowd(PORT_MIN, PORT_MAX);
	ic_ports(0, "--check");

	refuse_call(SYS_socket, 0, AF_UNIX, EPERM);
	expect_in(ic_ports(0, "--check"), "\nclaims: none: Operation not permitted");
	refuse_call(SYS_setsockopt, 2, SO_REUSEADDR, EPERM);
	output = ic_ports(1, "--check");
	expect_in(output, "\na port in TIME_WAIT: ");
	expect_in(output, ": Operation not permitted");
}

/* A monitor reads one survey after the other, and ends. */
TEST_IN_NETNS(surveys_are_repeated)
{
	expect_equal(atoi(ic_ports(0, "--watch 1 | grep -m 2 'opened: yes' | wc -l")), 2);
	ic_ports(3, "--watch 1 >/dev/full 2>&1");
}

/* The greatest holders first. An ordinary user sees only his own processes. */
TEST_IN_NETNS(processes_are_named)
{
	static const int numbers[] = {2, 5, 1};
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
	snprintf(expected, sizeof(expected), "\nports held  by process\n"
			 "         5  ic_ports (%d)\n         2  ic_ports (%d)\n"
			 "         1  ic_ports (%d)\n\n", pids[1], pids[0], pids[2]);
	expect_in(ic_ports(0, ""), expected);

	/* [::] is in the way of another address, and 127.0.0.1 is not. */
	snprintf(expected, sizeof(expected), "\nports held  by process\n"
			 "         5  ic_ports (%d)\n         2  ic_ports (%d)\n\n",
			 pids[1], pids[0]);
	expect_in(ic_ports(0, "-a 127.0.0.2"), expected);

	/* In a child: those that hold the ports end with a root's process only. */
	pid = fork_child();
	if (pid == 0)
	{
		if (!become_another_user())
			skip_child("another user: run as root");
		expect_in(ic_ports(0, ""), "\nports held  by process\n"
				  "         8  others that cannot be seen");
		_exit(0);
	}
	wait_for_child(pid);
}

/* The two parts of the answer do not depend on each other. */
TEST_IN_NETNS(what_cannot_be_seen_is_said)
{
	const char *output;

	set_port_range(PORT_MIN, PORT_MAX);
	hold(PORT_MIN, false, true);
	refuse_call(SYS_socket, 0, AF_NETLINK, EPERM);
	output = ic_ports(0, "");
	expect_in(output, "\nseen by     /proc/net/tcp\n");
	expect_in(output, "\n         1  listeners\n");
	expect_in(output, "can be opened: yes, 63 free, 0 by sharing\n");

	enter_mount_namespace();
	mount_empty_over("/proc");
	output = ic_ports(0, "-p 40000-40001");
	expect_in(output, "who holds the ports cannot be seen: ");
	expect_in(output, "a listener can be opened: yes");
	expect_in(ic_ports(1, "-p 40000 --json"),
			  "  \"holders\": null,\n  \"holders_error\": \"");
}

/* Too few descriptors say nothing about ports. */
TEST_IN_NETNS(what_cannot_be_told_is_3)
{
	set_port_range(PORT_MIN, PORT_MAX);
	refuse_call(SYS_socket, 1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, EMFILE);
	expect_in(ic_ports(3, ""), "a listener can be opened: unknown, socket: "
			  "Too many open files\n");
}

TEST(output_that_is_lost_is_3)
{
	ic_ports(3, ">/dev/full 2>/dev/null");
	ic_ports(3, ">&- 2>/dev/null");
	ic_ports(0, "2>&1 >&- | grep -qx 'ic_ports: standard output is closed'");
	ic_ports(0, "--version <&-");
}

TEST(bad_arguments_get_a_usage_line_and_2)
{
	static const char *const bad[] = {
		"-x", "--nosuch", "word", "-p", "-a", "-p 7-6", "-a localhost", "-a ''",
		"-a 224.0.0.1", "-a fe80::1", "--json=yes", "-w 0", "--to 5000",
		"--to=127.0.0.1:1 -p7", "--to=127.0.0.1:1 -alocalhost",
	};

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		char		arguments[64];
		const char *output;

		snprintf(arguments, sizeof(arguments), "%s 2>/dev/null", bad[i]);
		expect_equal(strlen(ic_ports(2, arguments)), 0);
		snprintf(arguments, sizeof(arguments), "%s 2>&1", bad[i]);
		output = ic_ports(2, arguments);
		expect(strncmp(output, "ic_ports: ", 10) == 0);
		expect_in(output, "\nusage: ic_ports [-a ADDRESS] [-p MIN-MAX] [-j] [-w SECONDS]\n");
	}
}

TEST(help_and_version)
{
	const char *output = ic_ports(0, "--help");

	expect_in(output, "usage: ic_ports [-a ADDRESS] [-p MIN-MAX] [-j] [-w SECONDS]\n");
	expect_in(output, "exit status: 0 ");
	expect(strcmp(ic_ports(0, "-V"), "ic_ports " IC_LISTENER_VERSION "\n") == 0);
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
