"""Keeps the passwords of connection strings out of what is shown."""

from __future__ import annotations

import re


def masked(value: str) -> str:
    """A connection string (URI or keywords) without its password; other text as it is."""
    if "://" in value:
        value = re.sub(r"(?i)([?&](?:ssl)?password=)[^&]*", r"\1***", value)
        value = re.sub(r"(?s)(://[^/@:]*:).*(?=@)", r"\1***", value)
    return re.sub(r"(?is)((?<![?&])\b(?:ssl)?password\s*=\s*)('(?:\\.|[^'\\])*'?|(?:\\.|\S)+)", r"\1***", value)
