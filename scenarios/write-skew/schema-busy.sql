-- The server keeps each committed SERIALIZABLE transaction in detail until the transactions that overlapped it have ended,
-- but no more than ten for each session, worker and prepared transaction that it allows; older ones are summarized. So many
-- short transactions are those of the requests that a connection serves next.
CREATE PROCEDURE serve_requests() LANGUAGE plpgsql AS $$
DECLARE
    requests integer := (
        SELECT 10 * (10 + sum(setting::integer)) FROM pg_settings
        WHERE name IN ('max_connections', 'max_prepared_transactions', 'max_worker_processes', 'max_wal_senders',
                       'autovacuum_max_workers', 'autovacuum_worker_slots')
    );
BEGIN
    FOR request IN 1 .. requests LOOP
        PERFORM 1;
        COMMIT;
    END LOOP;
END
$$;
