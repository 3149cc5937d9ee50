-- Leaves rows alone until they are :settle ms old; a transaction that takes longer is overtaken all the same.
SELECT id, version FROM events
WHERE tenant = :tenant AND version > :version
  AND created_at < clock_timestamp() - :settle::double precision * interval '1 millisecond'
ORDER BY version
LIMIT :batch;
