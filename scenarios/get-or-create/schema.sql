CREATE TABLE tags (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant integer NOT NULL,
    key    bigint NOT NULL
);
CREATE INDEX tags_by_key ON tags (tenant, key);
-- The answer that each caller got.
CREATE TABLE answers (
    tenant    integer NOT NULL,
    key       bigint NOT NULL,
    operation bigint NOT NULL,
    tag       bigint
);
