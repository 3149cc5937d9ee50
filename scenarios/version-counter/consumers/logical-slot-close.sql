DO $$
BEGIN
    EXECUTE format('DROP PUBLICATION IF EXISTS %I', current_schema());
END
$$;
