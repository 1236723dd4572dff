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
expect_said(int status, const char *arguments, const char *part)
{
	expect_in(ic_ports(status, arguments), part);
}

/* A member of the JSON object. */
static void
expect_number(const char *json, const char *name, int expected)
{
	char		start[64];
	const char *at;
	int			number = -1;

	snprintf(start, sizeof(start), "\"%s\": ", name);
	at = strstr(json, start);
	require(at != NULL && sscanf(at + strlen(start), "%d", &number) == 1 && number == expected,
			"%s is not %d: %s", name, expected, json);
}

/* A holder of a port, in this process. */
static int
hold(int port, bool reuse_address, bool listens)
{
	Neighbour	neighbour = {"0.0.0.0", .reuse_address = reuse_address, .listens = listens};
	int			fd = open_neighbour(&neighbour, port);

	require(fd >= 0, "port %d: %s", port, strerror(errno));
	return fd;
}

/* Some of everything: 29 ports are free, 23 can be shared, 8 are neither. */
static void
fill_range(void)
{
	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.ip_local_reserved_ports", "40060-40063,50000");
	for (int i = 0; i < 25; i++)
	{
		int			listener = hold(PORT_MIN + i, i < 20, true);

		leave_time_wait(listener, "127.0.0.1");
		close(listener);
	}
	for (int i = 25; i < 31; i++)
		hold(PORT_MIN + i, i < 28 || i == 30, i == 30);
	hold(40060, true, true);

	/* A peer that takes the connection. */
	set_sysctl("net.ipv4.ip_unprivileged_port_start", "0");
	hold(1, true, true);
}

TEST_IN_NETNS(the_verdict_is_what_can_be_had)
{
	IcListenerCensus before = IC_LISTENER_CENSUS_INIT;
	IcListenerCensus after = IC_LISTENER_CENSUS_INIT;
	int			had = 0;

	fill_range();
	expect_equal(ic_listener_census(NULL, &before), 0);
	expect_said(0, "2>&1", "\n\na listener can be opened: yes, 29 free, 23 by sharing\n"
				"a connection can be made: yes\n");

	/* It left nothing behind. */
	expect_equal(ic_listener_census(NULL, &after), 0);
	expect_equal(after.holders.time_wait, before.holders.time_wait);
	expect_equal(after.holders.unseen, before.holders.unseen);

	/* As many listeners as were promised, and no more. */
	while (open_listener(NULL).returned == 0)
		had++;
	expect_equal(had, 29 + 23);
	expect_said(1, "", "\na listener can be opened: no, ");
}

TEST_IN_NETNS(options_choose_the_ports_and_the_address)
{
	const char *output;

	fill_range();
	output = ic_ports(0, "-p 40028-40031");
	expect_in(output, "can be opened: yes, 1 free, 0 by sharing\n");
	expect(strstr(output, "a connection") == NULL);
	expect_said(1, "--ports 40030", "can be opened: no, ");
	expect_said(0, "--ports=40060-40061 --address=::1", "can be opened: yes, 2 free, 0 by sharing\n");
	expect_said(1, "-a 192.0.2.1", "no, 192.0.2.1 is not an address of this host");
}

TEST_IN_NETNS(json_has_it_all)
{
	static const struct
	{
		const char *name;
		int			number;
	}			members[] = {
		{"min", 40000}, {"max", 40063}, {"ports", 60}, {"reserved", 4}, {"listening", 1},
		{"time_wait", 25}, {"not_seen", 0}, {"free", 29}, {"by_sharing", 23},
	};
	const char *output;

	fill_range();
	output = ic_ports(0, "--json");
	for (size_t i = 0; i < lengthof(members); i++)
		expect_number(output, members[i].name, members[i].number);
	expect_in(output, "{\n  \"address\": null,\n");
	expect_in(output, "    \"named\": false\n");
	expect_in(output, "  \"holders_error\": null,\n");
	expect_in(output, "  \"listener\": {\n    \"answer\": \"yes\",\n");
	expect_in(output, "    \"ic_listener_connect\": {\n      \"answer\": \"yes\"\n    }\n  }\n}\n");

	/* What a monitor adds up is a number also when nothing is left. */
	output = ic_ports(1, "-j -p 40030");
	expect_in(output, "  \"listener\": {\n    \"answer\": \"no\",\n    \"reason\": \"");
	expect_number(output, "free", 0);
	expect_number(output, "by_sharing", 0);
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

	snprintf(arguments, sizeof(arguments), "--to 127.0.0.1:%d", to);
	snprintf(expected, sizeof(expected), "\nports left  by\n"
			 "%10d  connect()\n%10d  bind() by name, as ", by_connect, by_name);
	expect_said(status, arguments, expected);
	strcat(arguments, " --json");
	expect_number(ic_ports(status, arguments), "by_connect", by_connect);
	expect_number(ic_ports(status, arguments), "by_name", by_name);
}

/*
 * connect() passes over ports that bind() has given out, and bind() by name
 * finds no port that a holder does not share.
 */
TEST_IN_NETNS(ports_are_left_towards_a_destination)
{
	int			server = server_on("127.0.0.1", SERVER);

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

	expect_said(0, "", "\n connected   TIME_WAIT  to\n"
				"        30           0  127.0.0.1:5000\n"
				"         8           0  127.0.0.1:5001\n"
				"         2           0  127.0.0.1:5002\n\n");
	expect_said(0, "--json", "\"port\": 5001,\n        \"connections\": 8,\n"
				"        \"time_wait\": 0\n");
	expect_number(ic_ports(0, "--json"), "more", 0);
	expect(strstr(ic_ports(0, "--address 127.0.0.2"), "127.0.0.1:5000") == NULL);
	expect_said(0, "--to 127.0.0.1:5000", "connections 30, and 0 in TIME_WAIT\n");
	expect_left(SERVER, 0, 64 - 30 - 8 - 1, 64 - 30 - 2 - 1);
	expect_left(SERVER + 1, 0, 64 - 8 - 1, 64 - 8 - 2 - 1);
	expect_left(SERVER + 3, 0, 64 - 8 - 1, 64 - 2 - 1);
	expect_said(0, "--to 127.0.0.1:5000 -a 127.0.0.2", "\nconnections 0, and 0 in TIME_WAIT\n\n"
				"ports left  by\n        55  connect()\n        63  bind() by name, as ");

	/* The server was told of no connection but ours. */
	fcntl(server, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 30; i++)
		accept_from(server);
	expect(accept(server, NULL, NULL) == -1 && errno == EAGAIN);

	/* What is left can be had, and no more. */
	for (int i = 0; i < 25; i++)
		connect_from(0, true, SERVER);
	expect_left(SERVER, 0, 0, 8);
	expect_said(0, "--to 127.0.0.1:5000", "a connection can be made: yes, by "
				"ic_listener_connect(); connect() finds no port\n");
	for (int i = 0; i < 8; i++)
		connect_from(PORT_MAX - i, true, SERVER);
	expect_left(SERVER, 1, 0, 0);
	expect_said(1, "--to 127.0.0.1:5000", "a connection can be made: no, ");
}

/* Then the SYN cannot be held back: a port after the other is not tried. */
TEST_IN_NETNS(ports_are_not_counted_by_connecting)
{
	int			server;
	int			connections = 0;

	set_port_range(PORT_MIN, PORT_MAX);
	set_sysctl("net.ipv4.tcp_fastopen", "0");
	server = server_on("127.0.0.1", SERVER);
	expect_said(0, "--to 127.0.0.1:5000", "\n         ?  connect()\n");
	expect_said(0, "--to 127.0.0.1:5000 -j", "\"by_connect\": null,\n");
	fcntl(server, F_SETFL, O_NONBLOCK);
	while (accept(server, NULL, NULL) >= 0)
		connections++;
	require(connections <= 2 * 4, "%d connections", connections);
}

/* Neither is a lack of ports, nor are too few descriptors. */
TEST_IN_NETNS(what_cannot_be_told_is_3)
{
	expect_said(3, "--to 192.0.2.1:80", "a connection can be made: unknown, Network is ");
	expect_said(3, "--to 192.0.2.1:80 -j", "  \"from\": null,\n");
	expect_said(3, "--to 127.0.0.1:80 -a 192.0.2.1", "\n         ?  connect()\n");
	refuse_call(SYS_socket, 1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, EMFILE);
	expect_said(3, "", "a listener can be opened: unknown, socket: Too many open files\n");
}

TEST_IN_NETNS(the_library_is_checked)
{
	/* Also where every port has its holder. */
	for (int crowded = 0; crowded <= 1; crowded++)
	{
		if (crowded)
			crowd(PORT_MIN, PORT_MAX);
		expect_said(0, "--check", "\na port in TIME_WAIT: listened on and connected from again\n");
	}
	refuse_call(SYS_socket, 0, AF_UNIX, EPERM);
	expect_said(0, "--check", "\nclaims: none: Operation not permitted");
	refuse_call(SYS_setsockopt, 2, SO_REUSEADDR, EPERM);
	expect_said(1, "--check", "\na port in TIME_WAIT: ");
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
	static const Neighbour neighbours[] = {
		{"::", .listens = true}, {"::", .listens = true}, {"127.0.0.1", .listens = true}
	};
	const Ports ports[] = {
		ports_from_to(PORT_MIN, PORT_MIN + 1), ports_from_to(PORT_MIN + 2, PORT_MIN + 6),
		ports_from_to(PORT_MIN + 7, PORT_MIN + 7)
	};
	int			pids[3];
	char		expected[128];
	int			pid;

	set_port_range(PORT_MIN, PORT_MAX);
	for (int i = 0; i < 3; i++)
		pids[i] = hold_ports(&neighbours[i], &ports[i]);
	snprintf(expected, sizeof(expected), "\nports held  by process\n"
			 "         5  ic_ports (%d)\n         2  ic_ports (%d)\n"
			 "         1  ic_ports (%d)\n\n", pids[1], pids[0], pids[2]);
	expect_said(0, "", expected);

	/* [::] is in the way of another address, and 127.0.0.1 is not. */
	strcpy(strstr(expected, "         1  "), "\n");
	expect_said(0, "-a 127.0.0.2", expected);

	/* In a child: those that hold the ports end with a root's process only. */
	pid = fork_child();
	if (pid == 0)
	{
		if (!become_another_user())
			skip_child("another user: run as root");
		expect_said(0, "", "\nports held  by process\n         8  others that cannot be seen");
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
	expect_in(output, "can be opened: yes, 63 free, 0 by sharing\n");

	enter_mount_namespace();
	mount_empty_over("/proc");
	output = ic_ports(0, "-p 40000-40001");
	expect_in(output, "who holds the ports cannot be seen: ");
	expect_in(output, "a listener can be opened: yes");
	expect_said(1, "-p 40000 --json", "  \"holders\": null,\n  \"holders_error\": \"");
}

TEST(output_that_is_lost_is_3)
{
	ic_ports(3, ">/dev/full 2>/dev/null");
	ic_ports(3, ">&- 2>/dev/null");
	ic_ports(0, "--version <&-");
}

TEST(bad_arguments_get_a_usage_line_and_2)
{
	static const char *const bad[] = {
		"-x", "word", "-p", "-p 7-6", "-a localhost", "-a 224.0.0.1", "-a fe80::1", "--json=yes",
		"-w 0", "--to 5000", "--to=127.0.0.1:1 -p7", "--to=127.0.0.1:1 -alocalhost",
	};

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		char		arguments[64];

		snprintf(arguments, sizeof(arguments), "%s 2>/dev/null", bad[i]);
		expect_equal(strlen(ic_ports(2, arguments)), 0);
		snprintf(arguments, sizeof(arguments), "%s 2>&1", bad[i]);
		expect_said(2, arguments, "\nusage: ic_ports ");
	}
	expect_said(0, "--help", "usage: ic_ports ");
	expect_said(0, "-V", "ic_ports " IC_LISTENER_VERSION "\n");
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
		test(what_cannot_be_told_is_3),
		test(the_library_is_checked),
		test(surveys_are_repeated),
		test(processes_are_named),
		test(what_cannot_be_seen_is_said),
		test(output_that_is_lost_is_3),
		test(bad_arguments_get_a_usage_line_and_2));
}
