ALTER TABLE events ADD COLUMN IF NOT EXISTS done boolean NOT NULL DEFAULT false;
CREATE INDEX IF NOT EXISTS events_to_do ON events (tenant, id) WHERE NOT done;
