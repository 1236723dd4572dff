/* postmaster/postmaster.h, for the tests. */
#ifndef POSTMASTER_H
#define POSTMASTER_H

extern char *interconnect_address;

#endif							/* POSTMASTER_H */
