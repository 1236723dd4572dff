/* miscadmin.h, for the tests. */
#ifndef MISCADMIN_H
#define MISCADMIN_H

extern struct Port *MyProcPort;

extern volatile bool InterruptPending;
extern volatile int InterruptHoldoffCount;

#define HOLD_INTERRUPTS() (InterruptHoldoffCount++)
#define RESUME_INTERRUPTS() (InterruptHoldoffCount--)

#endif							/* MISCADMIN_H */
