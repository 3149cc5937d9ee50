-- Reads the last :window numbers again each time; a row that is later than that is lost.
SELECT id, version FROM events
WHERE tenant = :tenant AND version > :version::bigint - :window::bigint
ORDER BY version
LIMIT :batch::bigint + :window::bigint;
