-- SET LOCAL, here as a function: the setting ends with the transaction, which has one session of the server to itself.
BEGIN;
SELECT set_config('app.client', :client_id::text, true);
\sleep :think us
INSERT INTO notes VALUES (:tenant, :client_id, nullif(current_setting('app.client', true), '')::bigint, :operation);
COMMIT;
