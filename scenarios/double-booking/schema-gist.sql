DROP INDEX bookings_of_day;
CREATE INDEX bookings_during ON bookings USING gist (during);
