ALTER TABLE events ADD COLUMN version bigint;
