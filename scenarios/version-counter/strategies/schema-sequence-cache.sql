-- Each session takes 32 numbers at a time and hands them out whenever it comes to it.
CREATE SEQUENCE events_version CACHE 32;
ALTER TABLE events ALTER COLUMN version SET DEFAULT nextval('events_version');
