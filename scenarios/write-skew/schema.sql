CREATE TABLE doctors (
    tenant  integer NOT NULL,
    round   bigint NOT NULL,
    doctor  integer NOT NULL,
    on_call boolean NOT NULL,
    PRIMARY KEY (tenant, round, doctor)
);
