CREATE TABLE items (
    tenant integer NOT NULL,
    round  bigint NOT NULL,
    stock  integer NOT NULL,
    qty    integer NOT NULL,
    PRIMARY KEY (tenant, round)
);
CREATE TABLE orders (
    tenant    integer NOT NULL,
    round     bigint NOT NULL,
    operation bigint NOT NULL
);
