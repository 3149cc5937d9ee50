-- Days follow each other on one axis of hours, so that one range has the day and the time.
CREATE TABLE bookings (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    integer NOT NULL,
    day       bigint NOT NULL,
    during    int8range NOT NULL,
    operation bigint NOT NULL
);
CREATE INDEX bookings_of_day ON bookings (tenant, day);
