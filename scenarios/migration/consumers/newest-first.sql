SELECT id, version FROM events ORDER BY version DESC LIMIT 1;
