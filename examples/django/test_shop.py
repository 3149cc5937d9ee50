"""Two orders never have the same number, whatever the schedule."""

import os

import pytest

from racebench import Fixture, RaceFound


@pytest.fixture(scope="session")
def shop(racebench_dsn: str):
    """The application with its tables, imported after DATABASE_URL is set."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from shop import models

    yield models
    connections.close_all()


def duplicates():
    """The numbers that more than one order has."""
    from django.db.models import Count
    from shop.models import Order

    return Order.objects.values("number").annotate(orders=Count("id")).filter(orders__gt=1)


@pytest.mark.xfail(raises=RaceFound, strict=True, reason="meant to fail; pytest --runxfail shows the race")
def test_create_order_is_race_free(racebench: Fixture, shop):
    racebench.explore(shop.create_order, sessions=2, invariant=duplicates)


def test_create_order_fixed_is_race_free(racebench: Fixture, shop):
    racebench.explore(shop.create_order_fixed, sessions=3, invariant=duplicates)
    racebench.hammer(shop.create_order_fixed, workers=4, operations=400, invariant=duplicates)
