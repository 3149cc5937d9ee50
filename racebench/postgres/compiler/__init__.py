"""From a script to Python: its round trips, and one straight-line function for all of them.

`transactions` says what a statement does to its transaction, `round_trips` divides a script into what is sent together,
`program` writes the function. Nothing here opens a connection. `tests/postgres/golden` holds what is written for some
scripts.

Why a compiler and not an interpreter: beside 31 other processes, the amount of Python that each wake-up runs decides
the rate (docs/performance.md, docs/decisions/0006-wire-loop.md).
"""
