CREATE SEQUENCE IF NOT EXISTS events_version;
ALTER TABLE events ADD COLUMN IF NOT EXISTS version bigint;
ALTER TABLE events ALTER COLUMN version SET DEFAULT nextval('events_version');
\sleep :think us
INSERT INTO events (payload, operation) VALUES ('new', :operation);
