-- The search_path of this transaction only.
BEGIN;
SELECT set_config('search_path', split_part(current_setting('search_path'), ',', 1) || ', client_' || :client_id, true);
\sleep :think us
INSERT INTO notes
VALUES (:tenant, :client_id, nullif(split_part(current_setting('search_path'), 'client_', 2), '')::bigint, :operation);
COMMIT;
