ALTER TABLE orders ADD UNIQUE (request);
