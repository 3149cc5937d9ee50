"""PostgreSQL: servers, connections, the wire protocol, schemas, and what a server provides."""
