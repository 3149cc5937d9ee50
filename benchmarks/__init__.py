"""Benchmarks of racebench and comparable programs.

`python -m benchmarks.load`, `detection`, `check`, `start`, `consumer`, `explore`, `frontrun`.

Two are no measurements: `python -m benchmarks.specs` runs PostgreSQL's own isolation specs (docs/specs.md), and
`python -m benchmarks.fuzz` tests the explorer with random programs (docs/explore.md).

Run from a checkout, after `pip install '.[bench]'`; docs/performance.md describes each. Not part of the
package and not run by pytest.
"""
