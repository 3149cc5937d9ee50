-- Every row that a subject commits is written here, too, and stays when racebench drops its schema.
CREATE SCHEMA faults;
CREATE TABLE faults.rows (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The runs of a command follow each other in tables of one name.
    written   oid NOT NULL,
    -- racebench's: who wrote it. Before a run it tries a function without other sessions.
    role      text NOT NULL,
    tenant    integer NOT NULL,
    version   bigint,
    operation bigint
);
CREATE FUNCTION faults.audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = faults AS $$
BEGIN
    INSERT INTO faults.rows (written, role, tenant, version, operation)
        VALUES (TG_RELID, split_part(current_setting('application_name'), ' ', 2),
                NEW.tenant, NEW.version, NEW.operation);
    RETURN NULL;
END
$$;
GRANT USAGE ON SCHEMA faults TO PUBLIC;
