-- The lock is a statement of its own: the SELECT after it takes a snapshot younger than the lock.
-- Its key is the table's own number, so that it collides with nobody else's advisory locks.
BEGIN;
SELECT pg_advisory_xact_lock('events'::regclass::int, :tenant);
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
