-- The counter row stays locked until COMMIT, so versions are committed in the order they are given out.
BEGIN;
INSERT INTO counters (tenant, version) VALUES (:tenant, 1)
    ON CONFLICT (tenant) DO UPDATE SET version = counters.version + 1
    RETURNING version \gset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
