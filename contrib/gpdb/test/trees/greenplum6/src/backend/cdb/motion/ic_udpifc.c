/*
 * ic_udpifc.c
 *		The head of all trees' file of that name; ic_udpifc.body follows.
 */
#include "postgres.h"

#include "cdb/ml_ipc.h"
#include "cdb/cdbvars.h"

#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>

