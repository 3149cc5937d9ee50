-- What the last poll's snapshot did not show and this one shows. It takes no limit: the next snapshot would pass the rest.
-- On a hot standby pg_current_snapshot() lists no transaction in progress, so that those are taken for seen.
SELECT id, version, pg_current_snapshot() AS seen FROM events
WHERE tenant = :tenant AND xid >= pg_snapshot_xmin(:seen::pg_snapshot)
  AND NOT pg_visible_in_snapshot(xid, :seen::pg_snapshot)
ORDER BY xid, version;
