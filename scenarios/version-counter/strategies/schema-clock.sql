-- Microseconds since 1970, taken when the row is inserted.
ALTER TABLE events ALTER COLUMN version SET DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
