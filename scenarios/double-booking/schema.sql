-- Days lie one after the other on one line of hours, so that a range alone says room and time.
CREATE TABLE bookings (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    integer NOT NULL,
    during    int8range NOT NULL,
    operation bigint NOT NULL
);
CREATE INDEX bookings_during ON bookings USING gist (during);
