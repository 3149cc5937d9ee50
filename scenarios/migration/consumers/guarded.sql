SELECT id, version FROM events WHERE version IS NOT NULL AND version > :version ORDER BY version LIMIT :batch;
