"""SCRAM-SHA-256 as a client does it, without channel binding.

For a client and a server that both speak TLS with the proxy: the server refuses a client that could have bound to its
certificate and thinks that the server cannot. Source: RFC 5802, RFC 7677; the server's auth-scram.c.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import stringprep
import unicodedata

MECHANISM = b"SCRAM-SHA-256"
_UNBOUND = b"n,,"
_PROHIBITED = (
    *(stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4),
    *(stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8),
    stringprep.in_table_c9,
)


class Refused(ValueError):  # noqa: N818 - the server's answer is refused
    """The server's answer is not what the password leads to."""


class Scram:
    """One authentication with a password, in the order of its methods."""

    def __init__(self, password: bytes) -> None:
        self._password = _prepared(password)
        self._first = b"n=,r=" + base64.b64encode(secrets.token_bytes(18))
        self._signature = b""

    def first(self) -> bytes:
        """The client's first message."""
        return _UNBOUND + self._first

    def final(self, challenge: bytes) -> bytes:
        """The client's answer to the server's first message. Raises Refused."""
        try:
            fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
            nonce, salt, iterations = fields[b"r"], base64.b64decode(fields[b"s"]), int(fields[b"i"])
        except (KeyError, ValueError):
            raise Refused(challenge) from None
        if not nonce.startswith(self._first[5:]):
            raise Refused(challenge)
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        unsigned = b"c=" + base64.b64encode(_UNBOUND) + b",r=" + nonce
        signed = b",".join((self._first, challenge, unsigned))
        key = _mac(salted, b"Client Key")
        mask = _mac(hashlib.sha256(key).digest(), signed)
        proof = bytes(one ^ other for one, other in zip(key, mask, strict=True))
        self._signature = _mac(_mac(salted, b"Server Key"), signed)
        return unsigned + b",p=" + base64.b64encode(proof)

    def check(self, final: bytes) -> None:
        """The server's last message proves that it knows the password, or raises Refused."""
        if not hmac.compare_digest(final, b"v=" + base64.b64encode(self._signature)):
            raise Refused(final)


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _prepared(password: bytes) -> bytes:
    """SASLprep (RFC 4013); as the server and libpq do, a password that it does not allow is taken as it is."""
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter for letter in text if not stringprep.in_table_b1(letter)
    )
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not normal or any(prohibited(letter) for letter in normal for prohibited in _PROHIBITED):
        return password
    return normal.encode()
