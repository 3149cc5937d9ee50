"""Programs, requests and services as they are given: parsed, checked, named, and given again as words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import racebench
from racebench.api.applications import check_kinds
from racebench.cli.invocation import as_typed
from racebench.cli.option_groups import SubjectOptions
from racebench.cli.subjects import find_scenario
from racebench.core.errors import UsageProblem
from racebench.core.model import HttpRequest, Scenario
from racebench.workloads import ad_hoc, applications
from racebench.workloads.digests import digest

SERVE = "uvicorn shop:app --port {port}"


@pytest.mark.parametrize(
    ("text", "method", "path", "body", "kind"),
    [
        ('POST /orders {"sku": 1}', "POST", "/orders", b'{"sku": 1}', "application/json"),
        ("delete /orders/1?force=yes", "DELETE", "/orders/1?force=yes", b"", None),
        ("PUT  /a\n sku=1&n=2 \n", "PUT", "/a", b"sku=1&n=2", "application/x-www-form-urlencoded"),
        ("GET /ordres/é", "GET", "/ordres/%C3%A9", b"", None),
    ],
)
def test_a_request_is_a_method_a_path_and_a_body(
    text: str, method: str, path: str, body: bytes, kind: str | None
) -> None:
    headers = (("Content-Type", kind),) if kind else ()
    assert applications.request(text) == HttpRequest(method=method, path=path, headers=headers, body=body)
    own = (("content-type", "text/plain"),)
    assert applications.request(text, own).headers == own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"programs": ("",)}, "the command is empty"),
        ({"programs": ("sh -c 'x",)}, "the command 'sh -c 'x' has no closing quotation; quote it as for a shell"),
        ({"programs": ("a",), "call": ("m:f",)}, "both --call m:f and --exec 'a': a run has one or the other"),
        ({"programs": ("a",), "scenario": "naive"}, "both 'naive' and --exec 'a'"),
        ({"programs": ("a",), "serve": "b"}, "--serve goes with --http"),
        ({"programs": ("a",), "requests": ("GET /",), "serve": "b"}, "both --exec 'a' and --http 'GET /'"),
        ({"requests": ("GET /",)}, "--http needs the service that answers it"),
        ({"headers": ("A: b",)}, "--header goes with --http"),
        ({"restart": True}, "--restart goes with --http"),
        ({"expect_status": "2xx", "call": ("m:f",)}, "--expect-status goes with --http"),
        ({"requests": ("/orders",), "serve": "a"}, "'/orders' is not a request; give 'METHOD /path'"),
        ({"requests": ("POST http://x/orders",), "serve": "a"}, "is not a request"),
        ({"requests": ("GET /",), "serve": "a", "headers": ("A",)}, "'A' is not a header; give 'Name: value'"),
        ({"requests": ("GET /",), "serve": "a", "headers": ("A: b\r\nC: d",)}, "is not a header"),
        ({"requests": ("GET /",), "serve": "a", "expect_status": "ok"}, "--expect-status 'ok' is not a list"),
        ({"requests": ("GET /",), "serve": "a", "expect_status": ","}, "--expect-status ',' is not a list"),
        ({"requests": ("GET /",), "serve": "a", "ready": "health"}, "--ready 'health' is not a path"),
        ({"requests": ("GET /",), "serve": "a", "reset": "reset"}, "'reset' is not a request"),
        ({"requests": ("GET /",), "serve": ""}, "neither a command nor a URL"),
        ({"requests": ("GET /",), "serve": "a", "listen": "127.0.0.1:1"}, "--listen goes with --url"),
        ({"requests": ("GET /",), "url": "http://h:1"}, "--url needs --listen HOST:PORT"),
        ({"requests": ("GET /",), "url": "h:1", "listen": "h:1"}, "'h:1' is not the address of a service"),
        ({"requests": ("GET /",), "url": "https://h", "listen": "h:1"}, "is not the address of a service"),
        ({"requests": ("GET /",), "url": "http://h:1", "listen": "h"}, "--listen 'h' is not an address"),
        ({"requests": ("GET /",), "url": "http://h:1", "listen": "h:70000"}, "--listen 'h:70000' is not an address"),
        ({"requests": ("GET /",), "url": "http://h:1", "listen": "h:1", "restart": True}, "--restart is for a service"),
        ({"requests": ("GET /",), "url": "http://h", "listen": "h:1", "instances": "each"}, "--instances each is for"),
        ({"requests": ("GET /",), "url": "http://h", "serve": "a", "listen": "h:1"}, "both a command and a URL"),
        ({"setup": ("a.sql",)}, "--setup goes with --call, --exec, --http or a file of SQL"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_clear_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageProblem) as raised:
        find_scenario(SubjectOptions(**options), explored=True)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_a_service_elsewhere_is_not_loaded() -> None:
    with pytest.raises(UsageProblem, match="--url is for explore"):
        find_scenario(SubjectOptions(requests=("GET /",), url="http://127.0.0.1:1"))


@pytest.mark.parametrize(
    "options",
    [
        SubjectOptions(programs=("node create_order.js --fast", "sh -c 'sleep 1; ls'"), setup=("CREATE TABLE t ()",)),
        SubjectOptions(
            requests=('POST /orders {"sku": 1}', "DELETE /orders/1"),
            headers=("X-Shop: Bearer x",),
            serve=SERVE,
            ready="/health",
            expect_status="2xx,409",
            reset="POST /reset",
            restart=True,
            instances="shared",
            invariant=("SELECT 1",),
        ),
        SubjectOptions(requests=("GET /",), url="http://127.0.0.1:8000", listen="127.0.0.1:6432"),
    ],
)
def test_the_words_of_a_scenario_give_it_again(options: SubjectOptions) -> None:
    scenario = find_scenario(options, explored=True)
    words = list(scenario.options or ())
    assert words
    names = {"--exec": "programs", "--http": "requests", "-H": "headers"}
    given: dict[str, object] = {}
    while words:
        option = words.pop(0)
        if option == "--restart":
            given["restart"] = True
            continue
        name = names.get(option, option.removeprefix("--").replace("-", "_"))
        value = words.pop(0)
        repeated = name in (*names.values(), "setup", "invariant")
        given[name] = (*given.get(name, ()), value) if repeated else value  # type: ignore[misc]
    again = find_scenario(SubjectOptions(**given), explored=True)  # type: ignore[arg-type]
    assert again == scenario


def test_names_are_those_of_files_modules_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("create_order.js").write_text("1")
    one = find_scenario(SubjectOptions(programs=("node create_order.js 1", "node create_order.js 2", "bin/pay")))
    assert one.name == "create_order-1"
    assert [*one.strategies] == ["create_order-1,create_order-2,pay"]
    apart = find_scenario(SubjectOptions(programs=("node create_order.js", "bin/pay")), separate=True)
    assert [*apart.strategies] == ["create_order", "pay"]
    requests = find_scenario(SubjectOptions(requests=("POST /orders {}", "DELETE /orders/1?x=y"), serve=SERVE))
    assert (requests.name, [*requests.strategies]) == ("shop", ["post-orders,delete-orders-1"])


def test_a_changed_program_has_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def digest_of(*programs: str) -> str:
        parsed = [applications.program(text) for text in programs]
        (strategy,) = ad_hoc.from_programs(parsed, setup=(), invariants=()).strategies.values()
        return digest(strategy, None)

    Path("a.js").write_text("1")
    before = digest_of("node a.js")
    assert digest_of("node a.js") == before
    assert digest_of("node a.js 2") != before
    Path("a.js").write_text("2")
    assert digest_of("node a.js") != before


def test_a_secret_header_is_neither_shown_nor_part_of_the_digest() -> None:
    def scenario(token: str) -> Scenario:
        options = SubjectOptions(requests=("GET /",), serve="a", headers=(f"Authorization: Bearer {token}", "A: b"))
        return find_scenario(options)

    first, second = scenario("one"), scenario("two")
    assert first.options == ("--serve", "a", "--http", "GET /", "-H", "Authorization: ***", "-H", "A: b")
    assert len({digest(one, None) for scenario_of in (first, second) for one in scenario_of.strategies.values()}) == 1
    assert as_typed(["run", "-H", "authorization:Bearer one"]) == "racebench run -H 'authorization: ***'"


def test_requests_with_different_headers_have_no_words() -> None:
    requests = [applications.request("GET /", headers) for headers in ([("A", "b")], [("A", "c")])]
    assert ad_hoc.from_requests(requests, applications.service("a"), setup=(), invariants=()).options is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: racebench.service("a", ready="x"), "ready 'x' is not a path"),
        (lambda: racebench.service("a", listen="h:1"), "listen goes with url; a service that racebench starts (serve)"),
        (lambda: racebench.http("GET", "orders"), "the path 'orders' does not begin with '/'"),
        (lambda: racebench.http("GET ", "/"), "'GET ' is not an HTTP method"),
        (lambda: racebench.http("GET", "/", json=1, body="1"), "a request has a body or json, not both"),
        (lambda: racebench.http("GET", "/", headers={"A b": "c"}), "is not a header"),
        (lambda: racebench.program([]), "the command is empty"),
        (lambda: check_kinds([racebench.http("GET", "/")], None), "'GET /' needs the service that answers it: serve="),
        (lambda: check_kinds([racebench.program("a")], racebench.service("b")), "serve goes with racebench.http("),
        (lambda: check_kinds([racebench.program("a"), "m:f"], None), "both 'a' and 'm:f': give subjects of one kind"),
    ],
)
def test_in_python_a_mistake_is_named_in_its_words(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageProblem) as raised:
        make()
    assert message in str(raised.value)
    assert "--" not in str(raised.value)
