-- A new key for each operation of a worker; all workers ask for it at about the same time.
\set key :operation % 4294967296
\set tag null
BEGIN;
SELECT id AS tag FROM tags WHERE tenant = :tenant AND key = :key LIMIT 1 \aset
\sleep :think us
\if :tag is null
INSERT INTO tags (tenant, key) VALUES (:tenant, :key) RETURNING id AS tag \gset
\endif
INSERT INTO answers VALUES (:tenant, :key, :operation, :tag);
\sleep :hold us
COMMIT;
