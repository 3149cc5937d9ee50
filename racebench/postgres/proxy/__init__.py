"""A proxy between clients and a PostgreSQL server, in one thread and without a call that blocks.

It carries connections and takes them apart into messages; what becomes of a message is its user's: the explorer's gate
holds it, faults lose it.
"""
