/* As PostgreSQL's own, it has no guard, and names that libpq has as strings. */
#define ERRCODE_INVALID_PASSWORD 28
#define ERRCODE_CANNOT_CONNECT_NOW 57
#define ERRCODE_MIRROR_OR_QUIESCENT 571
#define ERRCODE_MIRROR_READY 572
#define ERRCODE_GP_INTERCONNECTION_ERROR 581
