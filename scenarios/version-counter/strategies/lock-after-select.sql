-- The maximum was read before the lock; what others wrote while this session waited is not in it.
BEGIN;
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \gset
\sleep :think us
LOCK TABLE events IN EXCLUSIVE MODE;
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
