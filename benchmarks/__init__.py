"""Benchmarks of racebench and comparable programs.

`python -m benchmarks.load`, `detection`, `check`, `start`, `consumer`, `explore`, `frontrun`.

`python -m benchmarks.fuzz` measures nothing: it tests the explorer with random programs (docs/explore.md).

Run from a checkout, after `pip install '.[bench]'`; docs/performance.md describes each. Not part of the
package and not run by pytest.
"""
