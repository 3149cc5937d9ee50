-- Temporary: the slot ends with the consumer's session, so that no killed run leaves one to hold back WAL.
SELECT pg_create_logical_replication_slot(current_schema() || '_slot', 'pgoutput', true);
