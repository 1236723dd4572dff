/*
 * ic_tcp.c
 *		The head of all trees' file of that name; ic_tcp.body follows.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "libpq/libpq-be.h"
#include "postmaster/postmaster.h"

#include "cdb/ml_ipc.h"
#include "cdb/cdbvars.h"

#ifdef ENABLE_IC_PROXY
#include "ic_proxy_backend.h"
#endif  /* ENABLE_IC_PROXY */

#include <fcntl.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/time.h>
#include <netinet/in.h>

