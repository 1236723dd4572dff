/* cdb/cdbvars.h, for the tests. */
#ifndef CDBVARS_H
#define CDBVARS_H

typedef enum
{
	GP_ROLE_DISPATCH,
	GP_ROLE_EXECUTE
} GpRoleValue;

extern GpRoleValue Gp_role;
extern char *interconnect_address;

#endif							/* CDBVARS_H */
