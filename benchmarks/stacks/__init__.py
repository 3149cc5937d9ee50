"""Applications in several languages over many clients of PostgreSQL: `python -m benchmarks.stacks` explores them."""
