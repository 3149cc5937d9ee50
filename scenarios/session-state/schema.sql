-- A request of `client` writes a row; `state` is the client that the session's state was of when it was written.
CREATE TABLE notes (
    tenant    integer NOT NULL,
    client    bigint NOT NULL,
    state     bigint,
    operation bigint NOT NULL
);
