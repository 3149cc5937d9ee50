-- The temporary table belongs to the session of the server: the next statement may meet another client's, or none.
CREATE TEMP TABLE IF NOT EXISTS basket (client bigint);
DELETE FROM basket;
INSERT INTO basket VALUES (:client_id);
\sleep :think us
INSERT INTO notes VALUES (:tenant, :client_id, (SELECT max(client) FROM basket), :operation);
