-- The temporary table ends with the transaction.
BEGIN;
CREATE TEMP TABLE basket (client bigint) ON COMMIT DROP;
INSERT INTO basket VALUES (:client_id);
\sleep :think us
INSERT INTO notes VALUES (:tenant, :client_id, (SELECT max(client) FROM basket), :operation);
COMMIT;
