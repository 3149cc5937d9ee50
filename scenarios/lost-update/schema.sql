CREATE TABLE accounts (
    tenant  integer PRIMARY KEY,
    balance bigint NOT NULL
);
CREATE TABLE deposits (
    tenant    integer NOT NULL,
    amount    bigint NOT NULL,
    operation bigint NOT NULL
);
INSERT INTO accounts SELECT tenant, 0 FROM generate_series(1, 10000) AS tenant;
