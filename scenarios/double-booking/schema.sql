-- Days lie one after the other on one line of hours, so that a range alone says day and time.
CREATE TABLE bookings (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    integer NOT NULL,
    day       bigint NOT NULL,
    during    int8range NOT NULL,
    operation bigint NOT NULL
);
CREATE INDEX bookings_of_day ON bookings (tenant, day);
