-- What can be asked of the table alone.
SELECT 'duplicates' AS kind, coalesce(sum(copies - 1), 0) AS number
FROM (SELECT count(*) AS copies FROM rows WHERE version IS NOT NULL GROUP BY tenant, version) AS numbers
UNION ALL
SELECT 'gaps', coalesce(sum(highest - lowest + 1 - used), 0)
FROM (
    SELECT max(version) AS highest, min(version) AS lowest, count(DISTINCT version) AS used
    FROM rows WHERE version IS NOT NULL GROUP BY tenant
) AS ranges
UNION ALL
SELECT 'unnumbered', count(*) FROM rows WHERE version IS NULL
