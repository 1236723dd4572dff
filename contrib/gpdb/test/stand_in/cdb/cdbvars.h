extern char *interconnect_address;
