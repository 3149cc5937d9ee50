-- One numbering transaction at a time, and the column numbers itself.
BEGIN;
SELECT pg_advisory_xact_lock('events'::regclass::int, :tenant);
\sleep :think us
INSERT INTO events (tenant, payload, operation) VALUES (:tenant, 'x', :operation) RETURNING version \gset
\sleep :hold us
COMMIT;
