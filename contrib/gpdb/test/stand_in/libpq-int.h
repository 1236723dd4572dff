typedef struct pg_conn
{
	int			sock;
	struct sockaddr_in raddr;
	char		errorMessage[256];
} PGconn;

extern bool startConnection(PGconn *conn);
extern bool cancelConnection(PGconn *conn);
