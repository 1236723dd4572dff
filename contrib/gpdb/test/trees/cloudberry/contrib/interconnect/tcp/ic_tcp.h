/* ic_tcp.h, for the tests. */
