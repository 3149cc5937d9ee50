SELECT id, version FROM events WHERE version > :version ORDER BY version LIMIT :batch;
