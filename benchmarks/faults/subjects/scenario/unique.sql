ALTER TABLE events ADD CONSTRAINT events_version_key UNIQUE (tenant, version);
