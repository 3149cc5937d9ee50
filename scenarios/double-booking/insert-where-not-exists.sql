-- A new day every two operations of a worker: a room of the tenant, for two hours from a random hour.
\set day (:operation % 4294967296) / 2
\set hour :tenant * 1000000000 + :day * 100 + random(0, 8)
BEGIN;
\sleep :think us
INSERT INTO bookings (tenant, day, during, operation)
    SELECT :tenant, :day, int8range(:hour::bigint, :hour::bigint + 2), :operation
    WHERE NOT EXISTS (
        SELECT FROM bookings
        WHERE tenant = :tenant AND day = :day AND during && int8range(:hour::bigint, :hour::bigint + 2)
    );
\sleep :hold us
COMMIT;
