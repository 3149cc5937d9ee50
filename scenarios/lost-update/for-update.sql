BEGIN;
SELECT balance FROM accounts WHERE tenant = :tenant FOR UPDATE \gset
\sleep :think us
UPDATE accounts SET balance = :balance::bigint + 1 WHERE tenant = :tenant;
INSERT INTO deposits (tenant, amount, operation) VALUES (:tenant, 1, :operation);
\sleep :hold us
COMMIT;
