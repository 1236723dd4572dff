/* gp-libpq-int.h, for the tests. As the trees' own, it has postgres_fe.h in the backend. */
#ifndef GP_LIBPQ_INT_H
#define GP_LIBPQ_INT_H

#include "postgres_fe.h"

#include "libpq-int.h"

#endif							/* GP_LIBPQ_INT_H */
