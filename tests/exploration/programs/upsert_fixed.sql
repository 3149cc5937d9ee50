INSERT INTO visits (page, number) VALUES ('/', 1) ON CONFLICT (page) DO UPDATE SET number = visits.number + 1;
