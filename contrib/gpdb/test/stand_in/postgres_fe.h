#define FRONTEND 1

#include "c.h"
