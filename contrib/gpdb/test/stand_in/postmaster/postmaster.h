/* postmaster/postmaster.h, for the tests. */
#ifndef POSTMASTER_H
#define POSTMASTER_H

extern bool ClientAuthInProgress;

#endif							/* POSTMASTER_H */
