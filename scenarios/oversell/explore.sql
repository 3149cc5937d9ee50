-- One piece in stock, so that two sessions are enough.
\set round (:operation % 4294967296) / 2
INSERT INTO items VALUES (:tenant, :round, 1, 1);
