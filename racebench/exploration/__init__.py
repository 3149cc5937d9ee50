"""Every interleaving of a strategy's steps on the real server: proof that it can break, or that it cannot."""
