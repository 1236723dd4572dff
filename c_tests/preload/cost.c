/*
 * cost.c
 *		How much CPU a connect() takes that finds few ports or none, on a host of
 *		full_host --taken FREE, against the kernel's own answer that there is
 *		none: cost. An event loop stands still meanwhile.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLS 7

typedef struct Costs
{
	long		plain[CALLS];	/* microseconds */
	long		preloaded[CALLS];
	int			made;
} Costs;

/* Of this thread's own, whatever else the machine does. */
static long
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static int
compare(const void *one, const void *other)
{
	return *(const long *) one > *(const long *) other ? 1 : -1;
}

int
main(void)
{
	struct sockaddr_in peer = {
		.sin_family = AF_INET,
		.sin_port = htons(5000),
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	Costs	   *costs = mmap(NULL, sizeof(*costs), PROT_READ | PROT_WRITE,
							 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (int call = 0; call < CALLS; call++)
	{
		int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		long		start = now();

		if (syscall(SYS_connect, fd, &peer, sizeof(peer)) == 0 || errno != EADDRNOTAVAIL)
			return 3;
		costs->plain[call] = now() - start;

		/* A process that has looked for ports before may know better. */
		if (fork() == 0)
		{
			start = now();
			costs->made += connect(fd, (struct sockaddr *) &peer, sizeof(peer)) == 0 ||
				errno == EINPROGRESS;
			costs->preloaded[call] = now() - start;
			_exit(0);
		}
		close(fd);
		wait(NULL);
	}
	qsort(costs->plain, CALLS, sizeof(long), compare);
	qsort(costs->preloaded, CALLS, sizeof(long), compare);
	printf("%d of %d made, %ld us, plain %ld us\n", costs->made, CALLS,
		   costs->preloaded[CALLS / 2], costs->plain[CALLS / 2]);
	return 0;
}
