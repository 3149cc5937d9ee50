-- The session of the server listens, not the client: what it is told goes to whichever client it serves then.
UNLISTEN *;
LISTEN client_:client_id;
\sleep :think us
INSERT INTO notes
VALUES (:tenant, :client_id, (SELECT max(substr(channel, 8))::bigint FROM pg_listening_channels() AS channel), :operation);
