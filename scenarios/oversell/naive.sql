-- A new item every two operations of a worker; the first worker inserts it.
\set round (:operation % 4294967296) / 2
INSERT INTO items VALUES (:tenant, :round, 5, 5) ON CONFLICT DO NOTHING;
BEGIN;
SELECT qty FROM items WHERE tenant = :tenant AND round = :round \gset
\sleep :think us
\if :qty > 0
UPDATE items SET qty = qty - 1 WHERE tenant = :tenant AND round = :round;
INSERT INTO orders VALUES (:tenant, :round, :operation);
\endif
\sleep :hold us
COMMIT;
