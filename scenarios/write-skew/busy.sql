-- A shift of two doctors for each round; each worker acts for one of them. A round is one operation of each worker.
\set doctor 1 + :client_id % 2
\set round :operation % 4294967296
INSERT INTO doctors SELECT :tenant::int, :round::bigint, doctor, true FROM generate_series(1, 2) AS doctor ON CONFLICT DO NOTHING;
BEGIN;
SELECT count(*) AS on_call FROM doctors WHERE tenant = :tenant AND round = :round AND on_call \gset
\sleep :think us
\if :on_call > 1
UPDATE doctors SET on_call = false WHERE tenant = :tenant AND round = :round AND doctor = :doctor;
\endif
\sleep :hold us
COMMIT;
CALL serve_requests();
