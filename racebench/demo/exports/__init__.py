"""The demo to take along: one small file a format, each a function from what was shown to text. All open offline."""
