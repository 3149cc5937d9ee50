"""The JSON documents that racebench saves, and how they are read again."""
