-- A new plan for each operation of a worker.
\set plan :operation % 4294967296
BEGIN;
SELECT count(*) AS seats FROM seats WHERE tenant = :tenant AND plan = :plan \gset
\sleep :think us
\if :seats < 3
INSERT INTO seats VALUES (:tenant, :plan, :operation);
\endif
\sleep :hold us
COMMIT;
