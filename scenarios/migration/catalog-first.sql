\set there 0
SELECT 1 AS there FROM pg_attribute WHERE attrelid = 'events'::regclass AND attname = 'version' \aset
\sleep :think us
\if :there = 0
CREATE SEQUENCE events_version;
ALTER TABLE events ADD COLUMN version bigint DEFAULT nextval('events_version');
\endif
INSERT INTO events (payload, operation) VALUES ('new', :operation);
