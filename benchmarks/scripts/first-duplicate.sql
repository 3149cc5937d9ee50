-- The second row of the first pair: its id, the operation that wrote it, and how many rows there were up to it.
WITH numbered AS (
    SELECT id, operation, row_number() OVER (ORDER BY id) AS position,
           row_number() OVER (PARTITION BY tenant, version ORDER BY id) AS copy
    FROM events
)
SELECT id, operation, position FROM numbered WHERE copy = 2 ORDER BY id LIMIT 1;
