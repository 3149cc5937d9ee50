-- The row has no version until COMMIT.
BEGIN;
\sleep :think us
INSERT INTO events (tenant, payload, operation) VALUES (:tenant, 'x', :operation);
\sleep :hold us
COMMIT;
