-- The prepared statement belongs to the session of the server: its name may be another client's there, or nobody's.
DEALLOCATE ALL;
PREPARE note (integer, bigint, bigint) AS INSERT INTO notes VALUES ($1, $2, :client_id, $3);
\sleep :think us
EXECUTE note (:tenant, :client_id, :operation);
