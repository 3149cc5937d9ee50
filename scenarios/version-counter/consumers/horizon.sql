-- Only rows of transactions older than every one still running; nothing can appear behind the cursor any more.
SELECT id, version, xid FROM events
WHERE tenant = :tenant AND (xid, version) > (:xid::xid8, :version)
  AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, version
LIMIT :batch;
