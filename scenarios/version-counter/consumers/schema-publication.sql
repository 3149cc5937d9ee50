-- A publication belongs to the database; it has the schema's name, and logical-slot-close.sql drops it.
DO $$
BEGIN
    EXECUTE format('CREATE PUBLICATION %I FOR TABLE events WITH (publish = ''insert'')', current_schema());
END
$$;
