/* cdb/cdbvars.h, for the tests. */
#ifndef CDBVARS_H
#define CDBVARS_H

extern char *interconnect_address;

#endif							/* CDBVARS_H */
