-- One piece is in stock, so that two sessions can break the invariant.
\set round (:operation % 4294967296) / 2
INSERT INTO items VALUES (:tenant, :round, 1, 1);
