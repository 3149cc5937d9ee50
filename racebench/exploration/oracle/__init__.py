"""Judges a schedule without an invariant: an outcome that no serial order of the same operations has is an anomaly."""
