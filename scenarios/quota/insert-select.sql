-- A new plan for each operation of a worker.
\set plan :operation % 4294967296
BEGIN;
\sleep :think us
INSERT INTO seats SELECT :tenant, :plan, :operation
    WHERE (SELECT count(*) FROM seats WHERE tenant = :tenant AND plan = :plan) < 3;
\sleep :hold us
COMMIT;
