"""Workloads: scenarios of the catalog, files of SQL, Python callables, pgbench scripts and their expressions."""
