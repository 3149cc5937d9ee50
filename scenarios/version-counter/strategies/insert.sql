-- The column numbers itself; which default it has is the schema's affair.
BEGIN;
\sleep :think us
INSERT INTO events (tenant, payload, operation) VALUES (:tenant, 'x', :operation) RETURNING version \gset
\sleep :hold us
COMMIT;
