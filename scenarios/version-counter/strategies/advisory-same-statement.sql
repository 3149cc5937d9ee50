-- The statement's snapshot is taken before its lock is granted.
BEGIN;
WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock('events'::regclass::int, :tenant))
SELECT (SELECT coalesce(max(version), 0) + 1 FROM events WHERE tenant = :tenant) AS version FROM held \gset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
