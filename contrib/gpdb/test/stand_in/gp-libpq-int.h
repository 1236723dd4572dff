/* As the trees' own, it has postgres_fe.h in the backend. */
#include "postgres_fe.h"

#include "libpq-int.h"
