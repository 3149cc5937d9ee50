"""Checks while a run goes on: what can be said of operations as they end, before the table is read.

Nothing here decides a verdict: the checkers judge the whole history at the end.
"""
