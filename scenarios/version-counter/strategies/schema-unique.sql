ALTER TABLE events ADD CONSTRAINT events_version_unique UNIQUE (tenant, version);
DROP INDEX events_by_version;
