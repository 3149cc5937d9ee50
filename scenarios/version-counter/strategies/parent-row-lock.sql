-- The tenant's own row is the lock; it is held to COMMIT.
BEGIN;
SELECT tenant AS parent FROM tenants WHERE tenant = :tenant FOR UPDATE \gset
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
