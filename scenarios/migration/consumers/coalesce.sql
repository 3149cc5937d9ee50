SELECT id, version FROM events WHERE coalesce(version, 0) >= :version ORDER BY coalesce(version, 0) LIMIT :batch;
