-- A new key for each operation of a worker; all workers ask for it at about the same time.
\set key :operation % 4294967296
\set tag null
BEGIN;
\sleep :think us
INSERT INTO tags (tenant, key) VALUES (:tenant, :key) ON CONFLICT DO NOTHING;
SELECT id AS tag FROM tags WHERE tenant = :tenant AND key = :key \gset
INSERT INTO answers VALUES (:tenant, :key, :operation, :tag);
\sleep :hold us
COMMIT;
