CREATE TABLE events (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    integer NOT NULL,
    version   bigint,
    payload   text NOT NULL,
    operation bigint NOT NULL
);

-- Both SELECT max(version) and the consumer's poll read one end of this index.
CREATE INDEX events_by_version ON events (tenant, version);
