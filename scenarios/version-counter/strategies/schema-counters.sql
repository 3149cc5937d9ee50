CREATE TABLE counters (
    tenant integer PRIMARY KEY,
    version bigint NOT NULL
);
