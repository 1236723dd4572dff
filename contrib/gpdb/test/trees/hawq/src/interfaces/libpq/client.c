/* The client's libpq, which apply leaves alone. */
#include "postgres_fe.h"
