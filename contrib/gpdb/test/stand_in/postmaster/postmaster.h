/* postmaster/postmaster.h, for the tests. */
