UPDATE visits SET number = number + 1 WHERE page = '/';
INSERT INTO visits (page, number) VALUES ('/', 1) ON CONFLICT DO NOTHING;
