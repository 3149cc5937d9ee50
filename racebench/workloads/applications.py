"""Programs, HTTP requests and services as they are given: their texts parsed and checked, and the words that give them.

They are started by racebench.workloads.processes and racebench.workloads.services, and become a scenario in
racebench.workloads.ad_hoc.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from racebench.core.errors import UsageProblem
from racebench.core.model import HttpRequest, Instances, Program, Service
from racebench.core.passwords import masked_header
from racebench.core.plain_text import one_line, shortened

_REQUEST = re.compile(r"\s*(?P<method>[A-Za-z]+)\s+(?P<path>/\S*)(?:\s+(?P<body>.*?))?\s*", re.DOTALL)
_HEADER = re.compile(r"\s*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*(?P<value>[^\r\n\0]*?)\s*")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})")
_EXPECTED = re.compile(r"[1-5]xx|[1-5]\d\d")
_CONTENT_TYPE = "content-type"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
#: What a path may have unquoted: the printable ASCII characters.
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
#: What no shell changes.
_PLAIN = re.compile(r"[\w@%+=:./-]*(?:\{port\}[\w@%+=:./-]*)*", re.ASCII)
_LONGEST_NAME = 80
_LARGEST_FILE = 4 * 1024 * 1024
_NOT_IN_A_NAME = re.compile(r"[^0-9A-Za-z_.]+")


def program(text: str | Sequence[str]) -> Program:
    """A command as a shell would divide it, or its words; raises UsageProblem."""
    try:
        words = tuple(shlex.split(text) if isinstance(text, str) else map(str, text))
    except ValueError as problem:
        raise UsageProblem(f"the command '{text}' has {str(problem).lower()}; quote it as for a shell") from None
    if not words or not words[0] or any("\0" in word for word in words):
        raise UsageProblem("the command is empty; give a program with its arguments, such as 'node create_order.js'")
    return Program(words=words)


def request(text: str, headers: Sequence[tuple[str, str]] = ()) -> HttpRequest:
    """A request such as 'POST /orders {"sku": 1}'; raises UsageProblem."""
    match = _REQUEST.fullmatch(text)
    if match is None:
        raise UsageProblem(f"'{text}' is not a request; give 'METHOD /path', with a body after it if it has one")
    return made(
        match["method"], match["path"], body=(match["body"] or "").encode(errors="surrogateescape"), headers=headers
    )


def made(
    method: str, path: str, *, body: bytes = b"", headers: Sequence[tuple[str, str]] = (), as_json: Any = None
) -> HttpRequest:
    """A request of its parts; raises UsageProblem. `as_json`: a value that is the body, as JSON.

    A body has a Content-Type unless `headers` have one: JSON's if it is JSON, else a form's, as curl has it.
    """
    if not re.fullmatch("[A-Za-z]+", method):
        raise UsageProblem(f"'{method}' is not an HTTP method; give GET, POST, PUT, PATCH, DELETE …")
    if not path.startswith("/"):
        raise UsageProblem(f"the path '{path}' does not begin with '/'; give the path alone, such as /orders")
    if as_json is not None:
        if body:
            raise UsageProblem("a request has a body or json, not both; leave one of them out")
        body = json.dumps(as_json).encode()
    if body and all(name.lower() != _CONTENT_TYPE for name, _ in headers):
        headers = (*headers, ("Content-Type", _content_type(body)))
    quoted = quote(path.encode(errors="surrogateescape"), safe=_PRINTABLE)
    return HttpRequest(method=method.upper(), path=quoted, headers=tuple(headers), body=body)


def _content_type(body: bytes) -> str:
    try:
        json.loads(body)
    except ValueError:
        return _FORM
    return _JSON


def header(text: str) -> tuple[str, str]:
    """A header such as 'Authorization: Bearer x'; raises UsageProblem."""
    match = _HEADER.fullmatch(text)
    if match is None:
        raise UsageProblem(f"'{text}' is not a header; give 'Name: value'")
    return match["name"], match["value"]


def service(
    command: str | Sequence[str] = "",
    *,
    url: str = "",
    listen: str = "",
    ready: str = "",
    expect_status: str = "2xx",
    reset: str | HttpRequest | None = None,
    restart: bool = False,
    instances: str | None = None,
) -> Service:
    """A service of what a command line or a test says of it; raises UsageProblem for the first thing that is wrong."""
    if bool(command) == bool(url):
        both = "both a command and a URL" if command else "neither a command nor a URL"
        raise UsageProblem(f"{both}: a service is started by its command (--serve), or runs elsewhere (--url)")
    if url:
        address_of(url)
        if restart:
            raise UsageProblem("--restart is for a service that racebench starts (--serve); with --url use --reset")
        if instances == Instances.EACH:
            raise UsageProblem(
                "--instances each is for a service that racebench starts (--serve); --url is one instance"
            )
    if listen:
        if not url:
            raise UsageProblem(
                "--listen goes with --url; a service that racebench starts (--serve) is given the address itself"
            )
        _check_address(listen)
    if ready and not ready.startswith("/"):
        raise UsageProblem(f"--ready '{ready}' is not a path; give one that begins with '/', such as /health")
    return Service(
        command=program(command).words if command else (),
        url=url,
        listen=listen,
        ready=ready,
        expect=expected(expect_status),
        reset=request(reset) if isinstance(reset, str) else reset,
        restart=restart,
        instances=Instances.SHARED if url else None if instances is None else _instances(instances),
    )


def expected(text: str) -> tuple[str, ...]:
    """The status codes in a list such as "2xx,409"; raises UsageProblem."""
    patterns = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    wrong = next((pattern for pattern in patterns if not _EXPECTED.fullmatch(pattern)), None)
    if wrong is not None or not patterns:
        raise UsageProblem(f"--expect-status '{text}' is not a list of status codes; give one such as 2xx,409")
    return patterns


def _instances(text: str) -> Instances:
    if text not in list(Instances):
        raise UsageProblem(f"instances: '{text}' is unknown; it is {' or '.join(Instances)}")
    return Instances(text)


def _check_address(text: str) -> None:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise UsageProblem(f"--listen '{text}' is not an address; give host:port, such as 127.0.0.1:6432")


def address_of(url: str) -> tuple[str, int]:
    """The host and the port of a URL; raises UsageProblem."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme != "http" or parts.path not in ("", "/") or parts.query:
        raise UsageProblem(f"'{url}' is not the address of a service; give http://host:port")
    return host, port or 80


def name_of_program(words: Sequence[str]) -> str:
    """A short name for a command: that of the file or the module that it runs, else of the program."""
    for word in words[1:]:
        if Path(word).suffix and _is_file(Path(word)):
            return _short(Path(word).stem)
        if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.()]*", word):  # uvicorn shop:app
            return _short(word.partition(":")[0].rpartition(".")[2])
    return _short(Path(words[0]).stem)


def name_of_request(one: HttpRequest) -> str:
    """A short name for a request: `post-orders`."""
    return _short(f"{one.method.lower()} {one.path.partition('?')[0]}")


def name_of_service(one: Service) -> str:
    """A short name for a service."""
    if one.command:
        return name_of_program(one.command)
    host, port = address_of(one.url)
    return _short(f"{host}-{port}")


def called(one: Service) -> str:
    """What messages call a service: its command, or where it is."""
    return one.url or shortened(one_line(" ".join(one.command)), _LONGEST_NAME)


def _short(text: str) -> str:
    return _NOT_IN_A_NAME.sub("-", text).strip("-.") or "program"


def fingerprint(words: Sequence[str]) -> str:
    """A command and the contents of the files that it names, so that a schedule of another version is recognized."""
    texts = [shlex.join(words)]
    for word in words:
        path = Path(word)
        with contextlib.suppress(OSError):
            if _is_file(path) and path.suffix and path.stat().st_size <= _LARGEST_FILE:
                texts.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return "\n".join(texts)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a word that is no path: too long, or with a NUL
        return False


def described(one: Service) -> str:
    """What identifies a service's behaviour, as text."""
    reset = str(one.reset) if one.reset is not None else ""
    return "\n".join([fingerprint(one.command), one.url, ",".join(one.expect), reset, str(one.restart)])


def words_of_service(one: Service) -> list[str]:
    """The words that give a service on a command line."""
    words = ["--serve", " ".join(map(_quoted, one.command))] if one.command else ["--url", one.url]
    pairs: Mapping[str, str] = {
        "--listen": one.listen,
        "--ready": one.ready,
        "--expect-status": "" if one.expect == Service().expect else ",".join(one.expect),
        "--reset": "" if one.reset is None else str(one.reset),
        "--instances": "" if one.instances is None or one.url else str(one.instances),
    }
    for option, value in pairs.items():
        words += [option, value] if value else []
    return [*words, "--restart"] if one.restart else words


def _quoted(word: str) -> str:
    """A word as a shell takes it; {port} stands as it is, which a shell leaves alone."""
    return word if _PLAIN.fullmatch(word) else shlex.quote(word)


def words_of_requests(requests: Sequence[HttpRequest]) -> list[str] | None:
    """The words that give requests on a command line, without secrets; None if none can: their headers differ."""
    own = {tuple(pair for pair in one.headers if not _is_implied(pair, one)) for one in requests}
    if len(own) != 1:
        return None
    texts = [word for one in requests for word in ("--http", str(one))]
    again = [request(str(one), next(iter(own))) for one in requests]
    if again != [*requests]:
        return None
    return texts + [word for name, value in next(iter(own)) for word in ("-H", masked_header(name, value))]


def _is_implied(pair: tuple[str, str], one: HttpRequest) -> bool:
    return bool(one.body) and pair == ("Content-Type", _content_type(one.body))
