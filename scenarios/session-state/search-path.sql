-- A schema for each client, behind racebench's own in the search_path; it need not exist to be in it.
SELECT set_config('search_path', split_part(current_setting('search_path'), ',', 1) || ', client_' || :client_id, false);
\sleep :think us
INSERT INTO notes
VALUES (:tenant, :client_id, nullif(split_part(current_setting('search_path'), 'client_', 2), '')::bigint, :operation);
