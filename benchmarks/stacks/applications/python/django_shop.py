"""Django in one file, for gunicorn, over psycopg 3. CONN_MAX_AGE is its setting."""

import os

import dj_database_url
import django
from django.conf import settings
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Max
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(
    DATABASES={
        "default": dj_database_url.parse(
            os.environ["DATABASE_URL"], conn_max_age=int(os.environ.get("CONN_MAX_AGE", "0"))
        )
    },
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="secret",
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()


class Order(models.Model):
    number = models.IntegerField()

    class Meta:
        app_label = "shop"
        db_table = "orders"


def insert() -> int:
    number = (Order.objects.aggregate(last=Max("number"))["last"] or 0) + 1
    Order.objects.create(number=number)
    return number


@transaction.atomic
def insert_in_a_transaction() -> int:
    return insert()


@transaction.atomic
def insert_locked() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(42)")
    return insert()


def create_order(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"number": insert_in_a_transaction()})


def create_order_by_autocommit(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"number": insert()})


def create_order_locked(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"number": insert_locked()})


def create_order_again_and_again(_request: HttpRequest) -> JsonResponse:
    for _ in range(10):
        try:
            return create_order(_request)
        except IntegrityError:
            pass
    raise RuntimeError("still refused")


urlpatterns = [
    path("orders", create_order),
    path("orders/autocommit", create_order_by_autocommit),
    path("orders/locked", create_order_locked),
    path("orders/unique", create_order_again_and_again),
]

from django.core.wsgi import get_wsgi_application  # noqa: E402 - after the settings

application = get_wsgi_application()
