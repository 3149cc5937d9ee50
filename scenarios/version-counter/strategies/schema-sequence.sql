CREATE SEQUENCE events_version;
ALTER TABLE events ALTER COLUMN version SET DEFAULT nextval('events_version');
