-- The lock is gone before the row is visible: the next holder reads the maximum without it.
SELECT pg_advisory_lock('events'::regclass::int, :tenant);
BEGIN;
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
SELECT pg_advisory_unlock('events'::regclass::int, :tenant);
\sleep :hold us
COMMIT;
