/* mb/pg_wchar.h, for the tests. */
