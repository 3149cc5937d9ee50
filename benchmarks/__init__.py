"""racebench beside its peers: `python -m benchmarks.load`, `detection`, `check`, `start`, `consumer`.

Run from a checkout, after `pip install '.[bench]'`; docs/performance.md says what each measures. Not part of the
package and not run by pytest.
"""
