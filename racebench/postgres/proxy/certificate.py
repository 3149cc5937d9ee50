"""A TLS certificate of the proxy's own, for clients that ask for TLS: self-signed, made once, gone with the process."""

from __future__ import annotations

import contextlib
import functools
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

_ALPN = "postgresql"
_LIMIT_S = 30.0
_WORDS = (
    *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"),
    *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
)


@functools.cache
def server_context() -> ssl.SSLContext | None:
    """TLS as a server, for any client that does not verify; None if this machine cannot make a certificate.

    Python's ssl cannot: the program `openssl` does it, in about 20 ms.
    """
    program = shutil.which("openssl")
    if program is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="racebench-tls-") as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [program, *_WORDS, "-keyout", str(key), "-out", str(certificate)],
                check=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=_LIMIT_S,
            )
            context.load_cert_chain(certificate, key)
            context.set_alpn_protocols([_ALPN])
            return context
    return None
