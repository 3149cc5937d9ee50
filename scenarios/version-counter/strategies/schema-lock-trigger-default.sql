-- The column default has called nextval() before the trigger takes the lock.
CREATE SEQUENCE events_version;
ALTER TABLE events ALTER COLUMN version SET DEFAULT nextval('events_version');
CREATE FUNCTION lock_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock('events'::regclass::int, NEW.tenant);
    RETURN NEW;
END
$$;
CREATE TRIGGER lock_events BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION lock_events();
