-- One statement looks atomic; its snapshot is as blind to the others as two statements are.
BEGIN;
\sleep :think us
INSERT INTO events (tenant, version, payload, operation)
    SELECT :tenant, coalesce(max(version), 0) + 1, 'x', :operation FROM events WHERE tenant = :tenant
    RETURNING version \gset
\sleep :hold us
COMMIT;
