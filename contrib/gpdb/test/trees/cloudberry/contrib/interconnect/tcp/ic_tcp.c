/*
 * ic_tcp.c
 *		The head of Cloudberry's file of that name; ic_tcp.body follows.
 */
#include "postgres.h"

#include "ic_tcp.h"
#include "miscadmin.h"
#include "libpq/libpq-be.h"
#include "postmaster/postmaster.h"

#include "cdb/ml_ipc.h"
#include "cdb/cdbvars.h"

#include <fcntl.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/time.h>
#include <netinet/in.h>

#ifdef ENABLE_IC_PROXY
#include "proxy/ic_proxy_backend.h"
#endif							/* ENABLE_IC_PROXY */

