/* miscadmin.h, for the tests. */
#ifndef MISCADMIN_H
#define MISCADMIN_H

extern struct Port *MyProcPort;

#endif							/* MISCADMIN_H */
