-- The application asks for the number, works, and inserts.
BEGIN;
SELECT nextval('events_version') AS version \gset
\sleep :think us
INSERT INTO events (tenant, version, payload, operation) VALUES (:tenant, :version, 'x', :operation);
\sleep :hold us
COMMIT;
