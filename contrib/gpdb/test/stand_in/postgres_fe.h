/* postgres_fe.h, for the tests. */
#ifndef POSTGRES_FE_H
#define POSTGRES_FE_H

#define FRONTEND 1

#include "c.h"

#endif							/* POSTGRES_FE_H */
