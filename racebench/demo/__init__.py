"""One interleaving, step by step, on the real server: for a room, a recording or a page to take along."""
