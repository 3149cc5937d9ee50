-- FOR UPDATE waits for the last row it saw, not for the row that was added meanwhile.
BEGIN;
\set version 1
SELECT version + 1 AS version FROM events WHERE tenant = :tenant ORDER BY version DESC LIMIT 1 FOR UPDATE \aset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
