/* cdb/cdbvars.h, for the tests. */
#ifndef CDBVARS_H
#define CDBVARS_H

typedef enum
{
	GP_ROLE_DISPATCH,
	GP_ROLE_EXECUTE
} GpRoleValue;

typedef enum
{
	GPVARS_VERBOSITY_TERSE,
	GPVARS_VERBOSITY_DEBUG
} GpVars_Verbosity;

extern GpRoleValue Gp_role;
extern GpVars_Verbosity gp_log_interconnect;
#ifdef USE_ASSERT_CHECKING
extern bool gp_udpic_network_disable_ipv6;
#endif

#endif							/* CDBVARS_H */
