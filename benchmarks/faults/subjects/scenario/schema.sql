CREATE TABLE events (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    integer NOT NULL DEFAULT 1,
    version   bigint,
    operation bigint
);
CREATE INDEX events_by_version ON events (tenant, version);

DO $$
BEGIN
    IF to_regprocedure('faults.audit()') IS NOT NULL THEN
        CREATE TRIGGER audit AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION faults.audit();
    END IF;
END
$$;
