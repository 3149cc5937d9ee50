CREATE TABLE operations (operation bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
