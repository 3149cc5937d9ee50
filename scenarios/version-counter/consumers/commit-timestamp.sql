-- A commit has its timestamp before it is visible, so the one that is seen first need not be the first.
SELECT id, version, committed FROM (
    SELECT id, version, tenant, pg_xact_commit_timestamp(xid::xid) AS committed FROM events
) AS stamped
WHERE tenant = :tenant AND committed > :committed::timestamptz
ORDER BY committed
LIMIT :batch;
