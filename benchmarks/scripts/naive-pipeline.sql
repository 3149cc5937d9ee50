-- naive.sql with what pgbench can send together sent together: \gset is not allowed inside a pgbench pipeline, and
-- nothing may be waited for inside one, so :hold has no place here. At :hold 0 it does the same work.
BEGIN;
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
\startpipeline
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
COMMIT;
\endpipeline
