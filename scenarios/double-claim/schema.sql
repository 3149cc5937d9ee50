CREATE TABLE jobs (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant integer NOT NULL,
    round  bigint NOT NULL,
    state  text NOT NULL DEFAULT 'queued',
    UNIQUE (tenant, round)
);
CREATE INDEX jobs_queued ON jobs (tenant, id) WHERE state = 'queued';
CREATE TABLE claims (
    job       bigint NOT NULL,
    operation bigint NOT NULL
);
