-- Each row carries its own mark, so the order in which rows become visible does not matter.
UPDATE events SET done = true
WHERE id IN (
    SELECT id FROM events WHERE tenant = :tenant AND NOT done ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED
)
RETURNING id, version;
