"""Analyzes histories: anomalies, verdicts, performance, comparisons, baselines and thresholds."""
