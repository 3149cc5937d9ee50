CREATE SEQUENCE events_version;
CREATE FUNCTION number_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock('events'::regclass::int, NEW.tenant);
    NEW.version := nextval('events_version');
    RETURN NEW;
END
$$;
CREATE TRIGGER number_event BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION number_event();
