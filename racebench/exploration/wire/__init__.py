"""The wire gate: holds what any program sends to PostgreSQL until the search lets it go."""
