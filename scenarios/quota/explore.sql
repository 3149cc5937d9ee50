-- One of three seats is free, so that two sessions can break the invariant.
\set plan :operation % 4294967296
INSERT INTO seats SELECT :tenant::int, :plan::bigint, 0 FROM generate_series(1, 2);
