-- The same filter under a cursor on the version alone: an older transaction may have taken a smaller number later.
SELECT id, version FROM events
WHERE tenant = :tenant AND version > :version
  AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY version
LIMIT :batch;
