"""The packets that begin a connection: requests for encryption or cancellation, and the start-up message.

They have no kind, only a length and a code. Authentication is a conversation of ordinary messages (opening.py).
Source: PostgreSQL's manual, "Message Formats", and the server's ProcessStartupPacket.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_TWO = struct.Struct("!ii")
_SSL_CODE = 80877103
_GSS_CODE = 80877104
_CANCEL_CODE = 80877102
_SMALLEST = 8
_GREATEST = 10_000
#: The first byte of a TLS handshake record: a client that sends no SSLRequest (libpq's sslnegotiation=direct).
TLS_HANDSHAKE = b"\x16"

SSL_REQUEST = _TWO.pack(8, _SSL_CODE)


@dataclass(frozen=True, slots=True)
class SslRequest:
    """The client asks for TLS; the answer is b"S" or b"N"."""


@dataclass(frozen=True, slots=True)
class GssRequest:
    """The client asks for GSSAPI encryption; the answer is b"G" or b"N"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """The client asks to cancel what the session of this process does; the server only closes the connection."""

    pid: int
    secret: bytes
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupMessage:
    """The version of the protocol (196608 is 3.0) and the parameters, in the order in which the client gave them."""

    version: int
    parameters: Mapping[str, str]

    def with_defaults(self, defaults: Mapping[str, str]) -> StartupMessage:
        """The same with settings that the client did not give, neither as a parameter nor in `options`."""
        options = self.parameters.get("options", "")
        added = {
            name: value for name, value in defaults.items() if name not in self.parameters and not _sets(options, name)
        }
        return StartupMessage(version=self.version, parameters={**self.parameters, **added})

    def raw(self) -> bytes:
        """The packet."""
        body = "".join(f"{name}\0{value}\0" for name, value in self.parameters.items()) + "\0"
        encoded = body.encode(errors="surrogateescape")
        return _TWO.pack(len(encoded) + 8, self.version) + encoded


Packet = SslRequest | GssRequest | CancelRequest | StartupMessage


class NotAPacket(ValueError):  # noqa: N818 - what was sent is no packet
    """These bytes begin no connection; the server closes it without a word."""


def take_packet(buffer: bytearray) -> Packet | None:
    """Take the first packet off the buffer; None while it is incomplete. Raises NotAPacket."""
    if len(buffer) < 4:
        return None
    length = int.from_bytes(buffer[:4], "big")
    if not _SMALLEST <= length <= _GREATEST:
        raise NotAPacket(f"a length of {length}")
    if len(buffer) < length:
        return None
    raw = bytes(buffer[:length])
    del buffer[:length]
    _, code = _TWO.unpack_from(raw)
    if code == _SSL_CODE:
        return SslRequest()
    if code == _GSS_CODE:
        return GssRequest()
    if code == _CANCEL_CODE:
        if length < 12:
            raise NotAPacket("a cancel request without a process")
        return CancelRequest(pid=int.from_bytes(raw[8:12], "big"), secret=raw[12:], raw=raw)
    words = raw[8:].decode(errors="surrogateescape").split("\0")
    parameters: dict[str, str] = {}
    for name, value in zip(words[::2], words[1::2], strict=False):
        if not name:
            break
        parameters[name] = value
    return StartupMessage(version=code, parameters=parameters)


def _sets(options: str, name: str) -> bool:
    """Whether command-line options set a parameter: `-c name=value`, `-cname=value` or `--name=value`.

    The server takes dashes for underscores, and the case does not matter (its ParseLongOption, guc_name_compare).
    """
    return any(
        word.lower().replace("-", "_") == name.lower()
        for word in re.findall(r"(?:^|\s)(?:-c\s*|--)([\w.\-]+)\s*=", options)
    )
