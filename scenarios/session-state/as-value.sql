-- The client is a value of the statement: nothing is kept in the session.
INSERT INTO notes VALUES (:tenant, :client_id, :client_id, :operation);
