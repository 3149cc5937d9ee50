BEGIN;
INSERT INTO orders (tenant, request) VALUES (:tenant, :operation) ON CONFLICT (request) DO NOTHING;
\sleep :hold us
COMMIT;
