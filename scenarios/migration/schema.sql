CREATE TABLE events (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    integer NOT NULL DEFAULT 1,
    payload   text NOT NULL,
    operation bigint NOT NULL DEFAULT 0
);
-- The rows from before: operation 0, no version.
INSERT INTO events (payload) SELECT repeat('x', 100) FROM generate_series(1, 2000);
CREATE TABLE before AS SELECT pg_relation_filenode('events') AS filenode;
