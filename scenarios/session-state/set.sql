-- The setting stays in the session: a pooler that shares sessions gives it to the next client too.
SELECT set_config('app.client', :client_id::text, false);
\sleep :think us
INSERT INTO notes VALUES (:tenant, :client_id, nullif(current_setting('app.client', true), '')::bigint, :operation);
