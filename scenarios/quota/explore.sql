-- One seat left of three, so that two sessions are enough.
\set plan :operation % 4294967296
INSERT INTO seats SELECT :tenant::int, :plan::bigint, 0 FROM generate_series(1, 2);
