-- What racebench's checkers count, asked of tables: operations, rows, deliveries. Kind and number.
WITH written AS (
    SELECT r.tenant, o.started, o.ended, r.version
    FROM operations o JOIN rows r ON r.operation = o.id
    WHERE o.outcome = 'OK' AND r.version IS NOT NULL
), moments AS (
    SELECT tenant, started AS moment, 0 AS ends, version FROM written
    UNION ALL
    SELECT tenant, ended, 1, version FROM written
), highest AS (
    SELECT ends, version, max(CASE WHEN ends = 1 THEN version END)
        OVER (PARTITION BY tenant ORDER BY moment, ends ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before
    FROM moments
)
SELECT 'inversions' AS kind, count(*) AS number FROM highest WHERE ends = 0 AND before > version
UNION ALL
SELECT 'lost', count(*) FROM operations o
WHERE outcome = 'OK' AND NOT EXISTS (SELECT 1 FROM rows r WHERE r.operation = o.id)
UNION ALL
SELECT 'unexpected', count(*) FROM operations o
WHERE outcome = 'FAIL' AND EXISTS (SELECT 1 FROM rows r WHERE r.operation = o.id)
UNION ALL
SELECT 'refused', count(*) FROM operations
WHERE outcome = 'FAIL' AND (sqlstate LIKE '23%' OR sqlstate LIKE '40%' OR sqlstate IN ('42701', '42710', '42P07'))
UNION ALL
SELECT 'missed', count(*) FROM rows r
WHERE version IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = r.id)
UNION ALL
SELECT 'redelivered', count(*) - count(DISTINCT id) FROM deliveries
