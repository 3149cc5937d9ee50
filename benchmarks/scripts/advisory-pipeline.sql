-- advisory.sql with what pgbench can send together sent together; see naive-pipeline.sql.
-- The SELECT stays a statement of its own, so that its snapshot is younger than the lock.
\startpipeline
BEGIN;
SELECT pg_advisory_xact_lock('events'::regclass::int, :tenant);
\endpipeline
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
\startpipeline
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
COMMIT;
\endpipeline
