/*
 * promises.h
 *		Calls of the library that are held against everything the header
 *		promises of all calls, whatever their options.
 *
 * What the report counts is counted here as well, where bind() answers. So a
 * program that uses this has bind among its NAME_WRAPS in the Makefile.
 */
#ifndef PROMISES_H
#define PROMISES_H

#include "calls.h"

/*
 * Opens a socket, which has to work, and holds it against what is promised of
 * every one. Returns the fd; the report is filled.
 */
extern int	opens(const Kind *kind, const IcListenerOptions *options,
				  IcListenerReport *report);

/*
 * Tries to open a socket, which has to fail in that way, with and without a
 * report, and leave nothing open. The message has to contain the given text.
 */
extern IcListenerReport refused(const Kind *kind,
								const IcListenerOptions *options, int error,
								IcListenerStep step, const char *message);

/*
 * Takes every port of the range, each once and none outside it, and leaves
 * them open.
 */
extern void takes_each_port_once(const Kind *kind,
								 const IcListenerOptions *options,
								 int port_min, int port_max,
								 IcListenerPortOrigin origin);

#endif							/* PROMISES_H */
