-- Asks for the last number again: a twin that committed late is still found. What was seen is dropped by the reader.
SELECT id, version FROM events
WHERE tenant = :tenant AND version >= :version
ORDER BY version, id
LIMIT :batch;
