-- upsert.sql with what pgbench can send together sent together; see naive-pipeline.sql.
BEGIN;
INSERT INTO counters (tenant, version) VALUES (:tenant, 1)
    ON CONFLICT (tenant) DO UPDATE SET version = counters.version + 1
    RETURNING version \gset
\sleep :think us
\startpipeline
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
COMMIT;
\endpipeline
