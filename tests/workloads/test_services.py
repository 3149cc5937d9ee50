"""Services under test: started, asked, found dead, and stopped; and the client that asks them."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from racebench.core.errors import RacebenchError, UsageProblem
from racebench.workloads import applications
from racebench.workloads.http import HttpClient, NoAnswer, is_expected
from racebench.workloads.services import RunningService, free_port
from tests.waiting import wait_for
from tests.workloads.programs import SERVICE, python, written


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    file = written(tmp_path_factory.mktemp("service"), "shop.py", SERVICE)
    service = RunningService.start(applications.service([sys.executable, file, "{port}"], ready="/health"), {})
    yield service
    service.stop()


def test_a_connection_is_kept_and_made_again_when_the_service_has_closed_it(running: RunningService) -> None:
    order = applications.request('POST /orders {"sku": 1}')
    with HttpClient(running.host, running.port) as client:
        told = [json.loads(client.send(order, 30).body) for _ in range(2)]
        assert told[0] == told[1]
        assert told[0]["type"] == "application/json"
        assert told[0]["body"] == '{"sku": 1}'
        with pytest.raises(NoAnswer, match="the connection was closed without an answer") as raised:
            client.send(applications.request("POST /reset"), 30)
        assert raised.value.sent
        again = client.send(order, 30)
        assert (again.status, json.loads(again.body)["at"] != told[0]["at"]) == (201, True)
        refused = client.send(applications.request("POST /refuse"), 30)
        assert refused.text == "HTTP 409: sold out"
        with pytest.raises(NoAnswer, match=r"no answer within 0\.1 s") as late:
            client.send(applications.request("GET /slow"), 0.1)
        assert late.value.late
        assert client.send(order, 30).status == 201


def test_a_request_that_was_refused_was_not_sent() -> None:
    with HttpClient("127.0.0.1", free_port()) as client, pytest.raises(NoAnswer, match="refused") as raised:
        client.send(applications.request("GET /"), 5)
    assert not raised.value.sent


@pytest.mark.parametrize(
    ("status", "expect", "answer"),
    [(200, "2xx", True), (409, "2xx", False), (409, "2xx,409", True), (503, "5XX", True), (404, " 409 , 404", True)],
)
def test_a_status_is_expected_or_not(status: int, expect: str, answer: bool) -> None:
    assert is_expected(status, applications.expected(expect)) is answer


def test_a_service_that_dies_is_named_with_its_last_lines(tmp_path: Path) -> None:
    service = RunningService.start(applications.service([sys.executable, written(tmp_path, "shop.py", SERVICE)]), {})
    try:
        service.check()
        with HttpClient(service.host, service.port) as client, pytest.raises(NoAnswer):
            client.send(applications.request("POST /die"), 30)
        assert service.process is not None
        service.process.wait(30)
        with pytest.raises(
            RacebenchError, match=r"the service '.*shop\.py' ended \(exit 7\): out of luck; look at its"
        ):
            service.check()
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("text", "port", "message"),
    [
        ("import sys; sys.exit('no such table')", "", r"ended before it was ready \(exit 1\): no such table; run the"),
        ("step(); step(); time.sleep(600)", "", r"\(nothing listens there\): hello / hello; the command has no {port}"),
        (
            "step(); step(); time.sleep(600)",
            "{port}",
            r"\): hello / hello; does it listen on the port that it is given\?",
        ),
        (
            SERVICE.replace("self.answer(200", "step() or self.answer(503"),
            "",
            r"\(GET /health answers HTTP 503: \d+\): hell",
        ),
    ],
)
def test_a_service_that_is_never_ready_is_one_clear_line(tmp_path: Path, text: str, port: str, message: str) -> None:
    steps = tmp_path / "steps"
    step = f"def step(): print('hello', flush=True); open({str(steps)!r}, 'a').write('x')\nimport time\n"

    def wait_for_two_steps(_seconds: float) -> None:
        ended = "sys.exit" in text
        wait_for(lambda: ended or (steps.exists() and len(steps.read_text()) > 1), "the service does nothing")

    with pytest.raises(UsageProblem, match=message):
        RunningService.start(
            applications.service([*python(step + text), *([port] if port else [])], ready="/health"),
            {},
            ready_s=60 if "sys.exit" in text else 0.001,
            meanwhile=wait_for_two_steps,
        )


def test_a_service_elsewhere_is_waited_for_and_named_by_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        elsewhere = applications.service(url=f"http://127.0.0.1:{port}")
        service = RunningService.start(elsewhere, {}, ready_s=30)
        service.check()
        service.stop()
    with pytest.raises(UsageProblem, match=r"is not ready \(nothing listens there\); start it, or"):
        RunningService.start(elsewhere, {}, ready_s=0.1)
