ALTER TABLE items ADD CONSTRAINT items_in_stock CHECK (qty >= 0);
