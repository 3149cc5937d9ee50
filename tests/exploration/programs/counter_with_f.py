"""A page's views are counted over Django's ORM: the new number is computed in Python.

Django's documentation of F() warns of it. The fix is F(): the server computes the new number. (Code that reads the
number again after its commit, to return it, is not serializable even so: two calls may both be told of 2.)
"""

from __future__ import annotations

from django.db.models import F

from . import Program
from .django_shop import Page, request

SCHEMA = "CREATE TABLE pages (id int PRIMARY KEY, views int NOT NULL); INSERT INTO pages VALUES (1, 0);"


@request
def view() -> None:
    page = Page.objects.get(pk=1)
    page.views += 1
    page.save()


@request
def view_with_f() -> None:
    Page.objects.filter(pk=1).update(views=F("views") + 1)


PROGRAM = Program(
    schema=SCHEMA, buggy=(view,), fixed=(view_with_f,), invariant="SELECT views FROM pages WHERE views <> 2"
)
