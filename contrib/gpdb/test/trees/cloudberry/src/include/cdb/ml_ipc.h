/* cdb/ml_ipc.h, for the tests: in what Cloudberry differs. */
#ifndef ML_IPC_H
#define ML_IPC_H

typedef int32 ListenerPort;

/* Who has the address to listen on: the session's connection, or interconnect_address. */
#define ADDRESS_OF_SESSION 0
#define TCP_MESSAGE "interconnect Error: Could not set up tcp listener socket"
#define TCP_DETAIL "%s: %m", fun

/* setupUDPListeningSocket(): its parameters, its body, its wildcard. */
#define UDP_FOUR_PARAMETERS 1
#define UDP_REWRITTEN 1
#define UDP_FAMILY AF_INET

#include "interconnect.h"

#endif							/* ML_IPC_H */
