/*
 * netns.h
 *		Tests in their own network namespaces, where no other process takes
 *		ports and every sysctl is the test's.
 */
#ifndef NETNS_H
#define NETNS_H

#include <stdbool.h>

#include "child.h"

/* run_in_child() in a fresh one with lo up; a SKIP where there can be none. */
extern ChildOutcome run_in_netns(void (*body) (void *argument), void *argument,
								 char message[CHILD_MESSAGE_SIZE]);

/* Puts the calling process there. Returns NULL, or what it takes. */
extern const char *enter_netns(void);

/* By its name in sysctl(8). set_sysctl() requires success. */
extern bool write_sysctl(const char *name, const char *value);
extern void set_sysctl(const char *name, const char *format, ...)
			__attribute__((format(printf, 2, 3)));
extern void set_port_range(int port_min, int port_max);

/*
 * Since Linux 5.7, a sysctl lets bind() to port 0 hand out ports that can be
 * shared. What is tested with it does not apply to older kernels.
 */
#define AUTOBIND_REUSE "net.ipv4.ip_autobind_reuse"

extern bool has_autobind_reuse(void);

/* New IPv6 sockets take no IPv4: net.ipv6.bindv6only. */
extern void set_bindv6only(bool on);

#endif							/* NETNS_H */
