"""The kinds of sessions that an exploration runs, one file a kind."""
