"""Results as people and programs read them: terminal text, a page, and the formats. Nothing here computes a result."""
