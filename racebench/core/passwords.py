"""Keeps the passwords of connection strings, and of HTTP headers, out of what is shown."""

from __future__ import annotations

import re

#: Headers whose value is a secret.
_SECRET = re.compile(r"(?is)\s*((?:proxy-)?authorization|cookie|x-api-key|x-auth-token|x-csrf-token)\s*:.*")


def masked_header(name: str, value: str) -> str:
    """A header as it is written, without its value if that is a secret."""
    return f"{name}: ***" if _SECRET.fullmatch(f"{name}:") else f"{name}: {value}"


def masked(value: str) -> str:
    """A connection string (URI or keywords) without its password, a header without a secret; other text as it is."""
    if match := _SECRET.fullmatch(value):
        return f"{match[1]}: ***"
    if "://" in value:
        value = re.sub(r"(?i)([?&](?:ssl)?password=)[^&]*", r"\1***", value)
        value = re.sub(r"(?s)(://[^/@:]*:).*(?=@)", r"\1***", value)
    return re.sub(r"(?is)((?<![?&])\b(?:ssl)?password\s*=\s*)('(?:\\.|[^'\\])*'?|(?:\\.|\S)+)", r"\1***", value)
