"""Every error that ucloud raises on purpose. Catch by class, never by text.

    Error
    ├── Invalid            422  the input makes no sense; `details` names each bad field
    ├── Unauthenticated    401
    ├── Forbidden          403
    │   └── QuotaExceeded  403
    ├── NotFound           404  also: you may not see it
    ├── Conflict           409  somebody wrote first, or the state does not allow it: look again
    │   └── PreconditionFailed  412  it is not as If-Match says
    ├── PaymentRequired    402
    ├── RateLimited        429
    ├── Temporary          503  the world is not ready; try again after `retry_s`
    │   └── NotYet         503  it is about to be ready: worth asking for every second
    └── NoCapacity         507  more than there is

In loops only Conflict (look again) and Temporary (said in the status, tried again) are expected; anything else is a bug
and crashes the daemon, which its supervisor starts again.
"""

from collections.abc import Mapping


class Error(Exception):
    """`message` is for people; `code` is stable snake_case, for programs; `details` maps a field to what is wrong."""

    http_status = 500
    code = "internal"

    def __init__(self, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})


class Invalid(Error):
    http_status = 422
    code = "invalid"


class Unauthenticated(Error):
    http_status = 401
    code = "unauthenticated"


class Forbidden(Error):
    http_status = 403
    code = "forbidden"


class QuotaExceeded(Forbidden):
    code = "quota_exceeded"


class NotFound(Error):
    http_status = 404
    code = "not_found"


class Conflict(Error):
    http_status = 409
    code = "conflict"


class PreconditionFailed(Conflict):
    http_status = 412
    code = "precondition_failed"


class PaymentRequired(Error):
    http_status = 402
    code = "payment_required"


class RateLimited(Error):
    http_status = 429
    code = "rate_limited"


class NoCapacity(Error):
    http_status = 507
    code = "no_capacity"


class Temporary(Error):
    """The call may or may not have happened: read again before you decide again."""

    http_status = 503
    code = "temporary"

    def __init__(self, message: str, retry_s: float = 1.0, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message, details)
        self.retry_s = retry_s


class NotYet(Temporary):
    """Nothing has happened."""

    code = "not_yet"
