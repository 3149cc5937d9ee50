CREATE TABLE seats (
    tenant    integer NOT NULL,
    plan      bigint NOT NULL,
    operation bigint NOT NULL
);
CREATE INDEX seats_of_plan ON seats (tenant, plan);
