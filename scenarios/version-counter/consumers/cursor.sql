SELECT id, version FROM events
WHERE tenant = :tenant AND version > :cursor
ORDER BY version
LIMIT :batch;
