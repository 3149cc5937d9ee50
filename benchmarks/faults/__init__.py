"""Faults while racebench runs, and an independent look at what it says: `python -m benchmarks.faults`.

`families` has the faults, `grounds` and `servers` are what a fault happens to, `subjects` are the commands and what
they run, `trial` runs one with a fault, `look` judges it, `table` sums up.
"""
