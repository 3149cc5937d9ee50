-- A new day every two operations of a worker: a room of the tenant, for two hours from a random hour.
\set day (:operation % 4294967296) / 2
\set hour :tenant * 1000000000 + :day * 100 + random(0, 8)
BEGIN;
SELECT pg_advisory_xact_lock('bookings'::regclass::int, hashtext(:tenant::int || '/' || :day::bigint));
SELECT count(*) AS taken FROM bookings
    WHERE tenant = :tenant AND day = :day AND during && int8range(:hour::bigint, :hour::bigint + 2) \gset
\sleep :think us
\if :taken = 0
INSERT INTO bookings (tenant, day, during, operation)
    VALUES (:tenant, :day, int8range(:hour::bigint, :hour::bigint + 2), :operation);
\endif
\sleep :hold us
COMMIT;
