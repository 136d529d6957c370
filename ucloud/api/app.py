"""The REST API as a Flask application. `api/server.py` serves it; tests call it directly.

One module per noun; what they share is here: the error envelope and a request id on every answer, whatever went wrong; and
what no request may do, whoever it is from.
"""

import logging
import re
import secrets

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from ucloud import __version__
from ucloud.api import (
    action,
    cluster,
    console,
    docs,
    event,
    explain,
    health,
    host,
    image,
    internal,
    join,
    key,
    network,
    openapi,
    pool,
    port,
    power,
    resize,
    upload,
    userdata,
    vm,
)
from ucloud.api.body import MAX_BODY_BYTES
from ucloud.api.describe import ErrorAnswer, ErrorShown, reply
from ucloud.api.services import Services
from ucloud.base.errors import Error, Forbidden, Temporary

log = logging.getLogger("ucloud.api")

SILENCE_S, ANSWER_S = 60.0, 10.0
MESSAGES = {404: "there is nothing at this path", 405: "this path does not allow this method"}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
OWN_HOST = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]+)?", re.IGNORECASE)


def create_app(services: Services) -> Flask:
    app = Flask("ucloud.api", static_folder=None)
    app.extensions["ucloud"] = services
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False
    app.before_request(_name_request)
    app.before_request(_bound_silence)
    app.after_request(_name_answer)
    app.register_error_handler(Error, _known)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _bug)
    health.measure(app)
    app.before_request(_refuse_strange_pages)  # counted like every other request
    nouns = (
        *(vm, userdata, console, power, resize, port, upload, explain, image, key, network, join, host, pool),
        *(action, event, cluster, internal, health, openapi, docs),
    )
    for noun in nouns:
        app.register_blueprint(noun.routes)
    return app


def _bound_silence() -> None:
    """A client that falls silent in the middle of its upload, or does not take our answer, must not hold a thread for ever."""
    socket = request.environ.get("gunicorn.socket")
    if socket is not None:
        socket.settimeout(SILENCE_S if request.method == "PUT" else ANSWER_S)


def _refuse_strange_pages() -> None:
    """A browser that reaches the API must not act for pages of others: not for one whose name was made to lead here (DNS
    rebinding), nor for one that sends requests without seeing the answers (CSRF). Raises Forbidden."""
    host, origin = request.headers.get("Host", "localhost"), request.headers.get("Origin")
    if not OWN_HOST.fullmatch(host):
        raise Forbidden("ask for this API by its address, or as localhost")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise Forbidden("pages of other origins may not use this API")


def _name_request() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _name_answer(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    response.headers["X-Ucloud-Version"] = __version__  # a client may be older or newer
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"  # a guest's log is no page
    return response


def _envelope(status: int, code: str, message: str, details: dict[str, object]) -> Response:
    return reply(ErrorAnswer(ErrorShown(code, message, details), g.request_id), status)


def _known(error: Error) -> Response:
    response = _envelope(error.http_status, error.code, error.message, error.details)
    if isinstance(error, Temporary):
        response.headers["Retry-After"] = str(max(1, round(error.retry_s)))
    return response


def _of_http(error: HTTPException) -> Response:
    """What Flask itself refuses: no such path, a method that is not allowed, a body that is too large."""
    status = error.code or 500
    code = re.sub(r"[^a-z]+", "_", error.name.lower())
    message = MESSAGES.get(status) or error.description or error.name
    response = _envelope(status, code, message, {})
    for name, value in error.get_headers(request.environ):
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value  # Allow, with 405
    return response


def _bug(error: Exception) -> Response:
    log.error("request %s (%s %s) failed", g.request_id, request.method, request.path, exc_info=error)
    return _envelope(500, "internal", "ucloud made a mistake; its log tells more under this request id", {})
