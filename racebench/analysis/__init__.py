"""What follows from a history: anomalies, verdicts, performance, comparisons, baselines and thresholds."""
