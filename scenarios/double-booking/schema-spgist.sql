-- The bookings of schema-gist.sql, with an SP-GiST index instead.
DROP INDEX bookings_of_day;
INSERT INTO bookings (tenant, day, during, operation)
    SELECT -1, hour, int8range(hour, hour + 2), hour FROM generate_series(-4000, -2002, 2) AS hour;
CREATE INDEX bookings_during ON bookings USING spgist (during);
ANALYZE bookings;
