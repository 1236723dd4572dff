/* access/xact.h, for the tests. */
#ifndef XACT_H
#define XACT_H

typedef int64 TimestampTz;

extern TimestampTz GetCurrentStatementStartTimestamp(void);

#endif							/* XACT_H */
