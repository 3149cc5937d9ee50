-- One job for each round; the first worker of the round inserts it. A worker that finds no job does nothing.
\set round :operation % 4294967296
INSERT INTO jobs (tenant, round) VALUES (:tenant, :round) ON CONFLICT DO NOTHING;
\set job 0
BEGIN;
\set seen 0
SELECT id AS seen FROM jobs WHERE tenant = :tenant AND state = 'queued' ORDER BY id LIMIT 1 \aset
\sleep :think us
UPDATE jobs SET state = 'running' WHERE id = :seen AND state = 'queued' RETURNING id AS job \aset
\if :job > 0
INSERT INTO claims VALUES (:job, :operation);
\endif
\sleep :hold us
COMMIT;
