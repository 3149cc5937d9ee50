CREATE FUNCTION number_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := (SELECT coalesce(max(version), 0) + 1 FROM events WHERE tenant = NEW.tenant);
    RETURN NEW;
END
$$;
CREATE TRIGGER number_event BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION number_event();
