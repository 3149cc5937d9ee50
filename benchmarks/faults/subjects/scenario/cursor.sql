SELECT id, version FROM events
WHERE tenant = :tenant AND version > :version
ORDER BY version
LIMIT :batch;
