-- The article's start-up DDL, then a first new row.
CREATE SEQUENCE IF NOT EXISTS events_version;
ALTER TABLE events ADD COLUMN IF NOT EXISTS version bigint DEFAULT nextval('events_version');
\sleep :think us
INSERT INTO events (payload, operation) VALUES ('new', :operation);
