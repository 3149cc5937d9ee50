ALTER TABLE tags ADD CONSTRAINT tags_key_unique UNIQUE (tenant, key);
