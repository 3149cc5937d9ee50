"""Django without a project: the models of some programs, and what surrounds a request.

Tables are the programs'. `request` does what Django does around a view: a connection to the database that
DATABASE_URL names, which is closed at the end.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import django
from django.conf import settings

if not settings.configured:
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "later"}})
    django.setup()

from django.db import connection, connections, models

Result = TypeVar("Result")


def request(view: Callable[[], Result]) -> Callable[[], Result]:
    """A view with a connection of its own."""

    @functools.wraps(view)
    def call() -> Result:
        connections.settings["default"].update(_parsed(os.environ["DATABASE_URL"]))
        try:
            return view()
        finally:
            connection.close()

    return call


def _parsed(address: str) -> dict[str, Any]:
    url = urlsplit(address)
    options = dict(parse_qsl(url.query))
    return {
        "NAME": unquote(url.path[1:]),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": options.pop("host", url.hostname or ""),
        "PORT": options.pop("port", str(url.port or "")),
        "OPTIONS": options,
    }


class Page(models.Model):
    """A page and the number of its views."""

    views = models.IntegerField()

    class Meta:
        app_label = "shop"
        db_table = "pages"


class Stock(models.Model):
    """What is left of an item."""

    quantity = models.IntegerField()

    class Meta:
        app_label = "shop"
        db_table = "stocks"


class Repository(models.Model):
    """A repository, by its name."""

    name = models.TextField()

    class Meta:
        app_label = "shop"
        db_table = "repositories"
