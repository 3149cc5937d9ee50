-- The row is numbered by the COMMIT itself: the lock is held only while the transaction ends.
CREATE SEQUENCE events_version;
CREATE FUNCTION stamp_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock('events'::regclass::int, NEW.tenant);
    UPDATE events SET version = nextval('events_version') WHERE id = NEW.id;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER stamp_event AFTER INSERT ON events
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stamp_event();
