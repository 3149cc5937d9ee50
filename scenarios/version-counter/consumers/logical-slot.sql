-- Inserts in the order of their commits, as replication sees them. An insert in pgoutput is 'I', relation (4 bytes),
-- 'N', columns (2), then for each column 't', length (4), text; id is the first column.
SELECT convert_from(substring(data FROM 14 FOR get_byte(data, 12)), 'UTF8')::bigint AS id
FROM pg_logical_slot_get_binary_changes(
    current_schema() || '_slot', NULL, :batch::int,
    'proto_version', '1', 'publication_names', current_schema()::text
)
WHERE get_byte(data, 0) = ascii('I');
