BEGIN;
SELECT pg_advisory_xact_lock('events'::regclass::int, :tenant);
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
INSERT INTO events (tenant, version, operation) VALUES (:tenant, :version, :operation);
\sleep :hold us
COMMIT;
