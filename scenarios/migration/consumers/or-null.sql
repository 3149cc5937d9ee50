SELECT id, version FROM events WHERE version IS NULL OR version > :version ORDER BY version NULLS FIRST LIMIT :batch;
