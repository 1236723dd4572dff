/*
 * promises.h
 *		Calls of the library, checked against everything the header
 *		promises of all calls, whatever their options.
 *
 * This counts the answers of bind() to check the report. So a program that
 * uses it has bind among its NAME_WRAPS in the Makefile.
 */
#ifndef PROMISES_H
#define PROMISES_H

#include "calls.h"

/*
 * Opens a socket, which must work, and checks it against what is promised of
 * every one. Returns the fd, and fills the report.
 */
extern int	opens(const Kind *kind, const IcListenerOptions *options,
				  IcListenerReport *report);

/*
 * Tries to open a socket, which must fail in that way, with and without a
 * report, and leave nothing open. The message must contain the text.
 */
extern IcListenerReport refused(const Kind *kind,
								const IcListenerOptions *options, int error,
								IcListenerStep step, const char *message);

/*
 * Takes every port of the range, each once and none outside it. They stay
 * open.
 */
extern void takes_each_port_once(const Kind *kind,
								 const IcListenerOptions *options,
								 int port_min, int port_max,
								 IcListenerPortOrigin origin);

#endif							/* PROMISES_H */
