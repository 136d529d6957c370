"""Is the process alive, can it serve, and figures for Prometheus."""

import time
from typing import Literal, cast

from flask import Blueprint, Flask, Response, current_app, g, request
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ucloud.api.describe import describe
from ucloud.api.services import Services, services
from ucloud.api.watching import MAX_AGE_S
from ucloud.base.errors import Temporary

routes = Blueprint("health", __name__)


class Health(Struct, frozen=True):
    status: Literal["ok"] = "ok"


@routes.get("/healthz")
@describe("Is the process alive", answer=Health)
def healthz() -> Health:
    return Health()


@routes.get("/readyz")
@describe("Can it serve", answer=Health)
def readyz() -> Health:
    if services().view.age_s > MAX_AGE_S:
        raise Temporary("the view of the store is too old")
    services().store.get("host/")  # raises Temporary where the store does not answer
    return Health()


@routes.get("/metrics")
@describe("Figures for Prometheus", answer="text/plain")
def metrics() -> Response:
    return Response(generate_latest(current_app.extensions["ucloud.metrics"]), content_type=CONTENT_TYPE_LATEST)


def measure(app: Flask) -> None:
    """Count every request by its route, never by its path: a path holds names, of which there is no end."""
    registry = CollectorRegistry()
    requests = Counter("ucloud_api_requests", "Requests answered", ["method", "route", "status"], registry=registry)
    seconds = Histogram("ucloud_api_request_seconds", "Time to answer", ["method", "route"], registry=registry)
    age = Gauge("ucloud_api_view_age_seconds", "Since the store last gave a sign of life", registry=registry)
    age.set_function(lambda: cast(Services, app.extensions["ucloud"]).view.age_s)
    waits = Gauge("ucloud_api_waits", "Requests that wait for something to happen", registry=registry)
    waits.set_function(lambda: cast(Services, app.extensions["ucloud"]).waits.taken)
    app.extensions["ucloud.metrics"] = registry

    def begin() -> None:
        g.began_s = time.perf_counter()

    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE") else "other"
        requests.labels(method, route, response.status_code).inc()
        seconds.labels(method, route).observe(time.perf_counter() - g.began_s)
        return response

    app.before_request(begin)
    app.after_request(end)
