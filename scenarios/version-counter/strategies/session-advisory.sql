-- The lock belongs to the session, not to the transaction: it is held until after COMMIT, so the next holder sees the row.
-- A pooler that shares sessions gives the lock to one session of the server, and the next statements to another.
SELECT pg_advisory_lock('events'::regclass::int, :tenant);
BEGIN;
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
SELECT pg_advisory_unlock('events'::regclass::int, :tenant);
