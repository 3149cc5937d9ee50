CREATE TABLE tenants (tenant integer PRIMARY KEY);
INSERT INTO tenants SELECT generate_series(1, 65535);
