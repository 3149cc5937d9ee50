BEGIN;
SELECT count(*) AS before FROM events \gset
\sleep :think us
CREATE SEQUENCE IF NOT EXISTS events_version;
ALTER TABLE events ADD COLUMN IF NOT EXISTS version bigint DEFAULT nextval('events_version');
COMMIT;
INSERT INTO events (payload, operation) VALUES ('new', :operation);
