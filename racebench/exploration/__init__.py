"""Runs every interleaving of a strategy's steps on the real server: proof that the strategy has a race, or has none."""
