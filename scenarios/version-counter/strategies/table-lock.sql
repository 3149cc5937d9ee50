-- The lock comes first, so the SELECT sees every number that was ever given out.
BEGIN;
LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE;
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
