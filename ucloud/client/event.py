"""Events, by the SDK."""

import json
import time
from collections.abc import Iterator
from itertools import islice

import httpx

from ucloud.base.errors import Error, Temporary
from ucloud.client.calls import Calls, Json, Tell, given

SILENCE_S = 30.0  # the API gives a sign of life every 10 s


class Events(Calls):
    def events(self, about: str | None = None, since: str | None = None, limit: int | None = None) -> Iterator[Json]:
        """Newest first. about: NOUN/NAME, as in vm/web. since: a time in UTC, 2026-11-22T14:51:31Z. limit: so many at most; by
        default all that are kept."""
        return islice(self._all("events", {"about": about, "since": since}), limit)

    def follow_events(
        self, about: str | None = None, since: str | None = None, on_trouble: Tell | None = None
    ) -> Iterator[Json]:
        """Each as it is told, without end: from now on, or from `since` on. Hosts and loops tell theirs once a second: one may
        come a second after another that happened later; sorting by `id` mends it. What happens while the connection is broken
        comes when it works again. on_trouble: called with the reason when nothing can be heard for a while. Raises what the API
        refuses it with, and Unreachable where there is none to begin with."""
        wanted = given({"about": about, "since": since})
        self._transport.request("GET", "/v1/events", params=wanted | {"limit": 1})
        params, headers, trouble = wanted | {"follow": "true"}, {"Accept": "text/event-stream"}, ""
        while True:
            try:
                with self._transport.stream("/v1/events", params, headers, SILENCE_S) as response:
                    trouble = ""
                    for position, event in sent(response):
                        headers["Last-Event-ID"] = position
                        yield event
                pause_s = 1.0  # that server stops
            except Temporary as error:
                pause_s = error.retry_s
                if on_trouble and error.message != trouble:
                    on_trouble(error.message)
                trouble = error.message
            time.sleep(pause_s)


def sent(response: httpx.Response) -> Iterator[tuple[str, Json]]:
    """Position and content of each server-sent event. Raises Error for what is none."""
    position = ""
    for line in response.iter_lines():
        field, _, text = line.partition(": ")
        if field == "id":
            position = text
        elif field == "data":
            try:
                yield position, json.loads(text)
            except ValueError:
                raise Error(f"what {response.url} sends is no event: {text[:60]!r}") from None
