-- Reads up to the first number that is missing, and past it only when the row behind it is :patience ms old.
SELECT id, version FROM (
    SELECT id, version, bool_and(reached) OVER (ORDER BY version, id) AS reachable FROM (
        SELECT id, version,
               version - lag(version, 1, :version::bigint) OVER (ORDER BY version, id) <= 1
                   OR created_at < clock_timestamp() - :patience::double precision * interval '1 millisecond' AS reached
        FROM events
        WHERE tenant = :tenant AND version > :version::bigint
        ORDER BY version, id
        LIMIT :batch
    ) AS ahead
) AS judged
WHERE reachable
ORDER BY version, id;
