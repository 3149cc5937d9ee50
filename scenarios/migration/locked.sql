BEGIN;
SELECT pg_advisory_xact_lock('events'::regclass::int, 0);
CREATE SEQUENCE IF NOT EXISTS events_version;
ALTER TABLE events ADD COLUMN IF NOT EXISTS version bigint DEFAULT nextval('events_version');
COMMIT;
\sleep :think us
INSERT INTO events (payload, operation) VALUES ('new', :operation);
