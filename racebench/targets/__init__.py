"""Where the database is: an embedded server of racebench's own, or the user's.

A Target is how to connect, parsed once at the edge; nothing further in handles a DSN string.
"""

from racebench.targets.target import Target

__all__ = ["Target"]
