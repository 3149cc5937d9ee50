BEGIN;
INSERT INTO orders (tenant, request) VALUES (:tenant, :operation);
\sleep :hold us
COMMIT;
