/*
 * netns.c
 *		Tests in network namespaces of their own, and processes that start at
 *		one moment.
 */
#define _GNU_SOURCE

#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS_PER_TEST 60

enum
{
	EXIT_FAILED = 1,
	EXIT_NOT_AVAILABLE = 77,
};

/* Shared by all processes of one run_in_netns(); the first message counts. */
typedef struct Verdict
{
	int			taken;
	char		message[NETNS_MESSAGE_SIZE];
} Verdict;

static Verdict *verdict;

/* Shared by all processes of one run_at_once(). */
static pthread_barrier_t *barrier;

static void *
share_memory(size_t size)
{
	void	   *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
							  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	require(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	return memory;
}

static void
leave_message(const char *prefix, const char *format, va_list arguments)
{
	char		message[NETNS_MESSAGE_SIZE];
	int			length = snprintf(message, sizeof(message), "%s", prefix);

	vsnprintf(message + length, sizeof(message) - length, format, arguments);
	if (verdict == NULL)
		fprintf(stderr, "%s\n", message);
	else if (__sync_bool_compare_and_swap(&verdict->taken, 0, 1))
		memcpy(verdict->message, message, sizeof(message));
}

void
fail_child(const char *file, int line, const char *format,...)
{
	char		prefix[128];
	va_list		arguments;

	snprintf(prefix, sizeof(prefix), "%s:%d: ", file, line);
	va_start(arguments, format);
	leave_message(prefix, format, arguments);
	va_end(arguments);
	_exit(EXIT_FAILED);
}

void
skip_child(const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	leave_message("", format, arguments);
	va_end(arguments);
	_exit(EXIT_NOT_AVAILABLE);
}

static bool
write_file(const char *path, const char *text)
{
	int			fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t		left = strlen(text);

	if (fd < 0)
		return false;

	/* A list of reserved ports is taken a page at a time. */
	while (left > 0)
	{
		ssize_t		written = write(fd, text, left);

		if (written <= 0)
		{
			int			saved_errno = errno;

			close(fd);
			errno = saved_errno;
			return false;
		}
		text += written;
		left -= written;
	}
	close(fd);
	return true;
}

/*
 * The calling user becomes the root of a namespace of his own, which is what
 * the network namespace asks for.
 */
static bool
enter_user_namespace(void)
{
	char		uid_map[32];
	char		gid_map[32];

	snprintf(uid_map, sizeof(uid_map), "0 %d 1", (int) geteuid());
	snprintf(gid_map, sizeof(gid_map), "0 %d 1", (int) getegid());
	return unshare(CLONE_NEWUSER) == 0 &&
		write_file("/proc/self/setgroups", "deny") &&
		write_file("/proc/self/uid_map", uid_map) &&
		write_file("/proc/self/gid_map", gid_map);
}

static bool
set_loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int			fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool		up;

	if (fd < 0)
		return false;
	up = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
	request.ifr_flags |= IFF_UP;
	up = up && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	return up;
}

const char *
enter_netns(void)
{
	if (geteuid() != 0 && !enter_user_namespace())
		return "a user namespace: run as root, or allow them with sysctl "
			"user.max_user_namespaces and kernel.unprivileged_userns_clone=1";
	if (unshare(CLONE_NEWNET) != 0)
		return "a network namespace: run as root with CAP_SYS_ADMIN";
	if (!set_loopback_up())
		return "lo up in a network namespace: CAP_NET_ADMIN is needed";
	return NULL;
}

bool
write_sysctl(const char *name, const char *value)
{
	char		path[128];

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	for (char *at = path + strlen("/proc/sys/"); *at != '\0'; at++)
	{
		if (*at == '.')
			*at = '/';
	}
	return write_file(path, value);
}

void
set_sysctl(const char *name, const char *format,...)
{
	char	   *value;
	va_list		arguments;

	va_start(arguments, format);
	require(vasprintf(&value, format, arguments) >= 0, "out of memory");
	va_end(arguments);
	require(write_sysctl(name, value), "%s=%.100s: %s", name, value,
			strerror(errno));
	free(value);
}

void
set_port_range(int port_min, int port_max)
{
	set_sysctl("net.ipv4.ip_local_port_range", "%d %d", port_min, port_max);
}

int
fork_child(void)
{
	static const int crashes[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS};
	int			pid;

	/* What stands in a buffer would be printed by the child again. */
	fflush(NULL);
	pid = fork();
	require(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0)
	{
		/* cmocka's would go on with the parent's tests in the child. */
		for (size_t index = 0; index < sizeof(crashes) / sizeof(*crashes);
			 index++)
			signal(crashes[index], SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	}
	return pid;
}

static void
require_success(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_AVAILABLE)
		_exit(EXIT_NOT_AVAILABLE);
	require(status == 0, "a child ended with status 0x%x", status);
}

void
wait_for_child(int pid)
{
	int			status;

	require(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	require_success(status);
}

static NetnsOutcome
wait_for_verdict(int pid, char message[NETNS_MESSAGE_SIZE])
{
	int			status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	memcpy(message, verdict->message, NETNS_MESSAGE_SIZE);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && !verdict->taken)
		return NETNS_PASSED;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_AVAILABLE)
		return NETNS_NOT_AVAILABLE;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		snprintf(message, NETNS_MESSAGE_SIZE, "took longer than %d seconds",
				 SECONDS_PER_TEST);
	else if (message[0] == '\0')
		snprintf(message, NETNS_MESSAGE_SIZE, "ended with status 0x%x", status);
	return NETNS_FAILED;
}

NetnsOutcome
run_in_netns(void (*body) (void *argument), void *argument,
			 char message[NETNS_MESSAGE_SIZE])
{
	NetnsOutcome outcome;
	int			pid;

	verdict = share_memory(sizeof(Verdict));
	pid = fork_child();
	if (pid == 0)
	{
		const char *missing;

		alarm(SECONDS_PER_TEST);
		missing = enter_netns();
		if (missing != NULL)
			skip_child("%s", missing);
		body(argument);
		_exit(0);
	}
	outcome = wait_for_verdict(pid, message);
	munmap(verdict, sizeof(Verdict));
	verdict = NULL;
	return outcome;
}

void
wait_for_all(void)
{
	pthread_barrier_wait(barrier);
}

static pthread_barrier_t *
share_barrier(int processes)
{
	pthread_barrier_t *shared = share_memory(sizeof(pthread_barrier_t));
	pthread_barrierattr_t attributes;

	pthread_barrierattr_init(&attributes);
	pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	require(pthread_barrier_init(shared, &attributes, processes) == 0,
			"pthread_barrier_init for %d processes", processes);
	return shared;
}

void
run_at_once(int processes,
			void (*body) (int index, void *result, void *argument),
			void *argument, void *results, size_t result_size)
{
	size_t		size = processes * result_size;
	char	   *shared = share_memory(size);
	int		   *pids = calloc(processes, sizeof(int));

	require(pids != NULL, "out of memory");
	barrier = share_barrier(processes);
	for (int index = 0; index < processes; index++)
	{
		pids[index] = fork_child();
		if (pids[index] == 0)
		{
			wait_for_all();
			body(index, shared + index * result_size, argument);
			wait_for_all();
			_exit(0);
		}
	}

	/*
	 * Whoever fails never reaches the barrier. Waiting in the order of the
	 * index would wait for the others for ever, hence any child; the ones
	 * left die with this process.
	 */
	for (int left = processes; left > 0;)
	{
		int			status;
		int			pid = waitpid(-1, &status, 0);

		require(pid > 0, "waitpid: %s", strerror(errno));
		for (int index = 0; index < processes; index++)
		{
			if (pids[index] != pid)
				continue;
			require_success(status);
			left--;
		}
	}
	memcpy(results, shared, size);
	munmap(shared, size);
	munmap(barrier, sizeof(pthread_barrier_t));
	free(pids);
}
