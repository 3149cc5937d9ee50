-- `request` is the key that the client gives to a request, and keeps when it sends the request again.
CREATE TABLE orders (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant  integer NOT NULL,
    request bigint NOT NULL
);
