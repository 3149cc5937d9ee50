"""What is run: scenarios of the catalogue, files of SQL, Python callables, pgbench scripts and their expressions."""
