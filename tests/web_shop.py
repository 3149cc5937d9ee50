"""A service that numbers orders: what tests/api/test_own_code.py explores through the test client of its framework."""

from __future__ import annotations

from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient

import applications as app

service = FastAPI()
client = TestClient(service)


@service.post("/orders")
def create_order() -> None:
    app.create_order_over_its_own()


@service.post("/orders/locked")
def create_order_locked() -> None:
    app.create_order_locked_over_its_own()


@service.post("/orders/later")
async def create_order_later(tasks: BackgroundTasks) -> None:
    tasks.add_task(app.create_order_over_its_own)


@service.post("/orders/later/locked")
async def create_order_later_locked(tasks: BackgroundTasks) -> None:
    tasks.add_task(app.create_order_locked_over_its_own)


def post() -> None:
    client.post("/orders").raise_for_status()


def post_locked() -> None:
    client.post("/orders/locked").raise_for_status()


def post_later() -> None:
    client.post("/orders/later").raise_for_status()


def post_later_locked() -> None:
    client.post("/orders/later/locked").raise_for_status()
