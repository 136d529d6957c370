"""Events on the command line: a list for people and for scripts, and each as it happens."""

import json
import signal
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.golden.served import Served, served
from tests.unit.api.test_events import put
from tests.unit.cli.program import on_terminal, run, start
from tests.unit.cli.test_client import REFUSED, Servers, ok

SINCE = ("--since", "2026-11-22T00:00:00Z")


@pytest.fixture(scope="module")
def api() -> Iterator[Served]:
    with served() as api:
        web, _ = api.cloud.add_vm("web")
        put(api.cloud, "scheduler", 1, "placed", f"vm/{web}", "web")
        put(api.cloud, api.hands.host, 2, "running", f"vm/{web}", "web")
        put(api.cloud, "scheduler", 3, "silent", f"host/{api.hands.host}", "")
        put(api.cloud, "scheduler", 4, "led", "lock/scheduler", "")
        yield api


@pytest.fixture
def environment(api: Served) -> dict[str, str]:
    return {"UCLOUD_API": api.url, "HOME": "/nonexistent"}


def test_the_newest_come_last(environment: dict[str, str]) -> None:
    assert run("event", "list", environment=environment).stdout.splitlines() == [
        "TIME                  ABOUT           WHO        WHAT     WHY",
        "2026-11-22T14:51:32Z  vm/web          scheduler  placed   why placed",
        "2026-11-22T14:51:33Z  vm/web          h1         running  why running",
        "2026-11-22T14:51:34Z  host/h1         scheduler  silent   why silent",
        "2026-11-22T14:51:35Z  lock/scheduler  scheduler  led      why led",
    ]
    newest = run("event", "list", "--limit", "2", "-o", "name", environment=environment).stdout
    assert newest.splitlines() == ["host/h1", "lock/scheduler"]


def test_json_is_a_bare_list(environment: dict[str, str]) -> None:
    events = json.loads(run("event", "list", "--vm", "web", "-o", "json", environment=environment).stdout)
    assert [event["verb"] for event in events] == ["placed", "running"]
    assert set(events[0]) == {"id", "time", "who", "verb", "about", "name", "reason"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--vm", "web", "--host", "h1"], "give one of --vm, --image and --host"),
        (["--limit", "0"], "0"),
    ],
)
def test_wrong_usage(environment: dict[str, str], arguments: list[str], says: str) -> None:
    done = run("event", "list", *arguments, environment=environment)
    assert done.returncode == 2
    assert says in done.stderr


def test_what_is_refused_is_said(environment: dict[str, str]) -> None:
    for verb in ("list", "watch"):
        done = run("event", verb, "--vm", "wbe", environment=environment)
        assert (done.returncode, done.stderr.splitlines()[0]) == (1, "Error: there is no vm 'wbe'")
        done = run("event", verb, "--since", "noon", environment=environment)
        assert done.returncode == 1
        assert "a time in UTC, as in 2026-11-22T14:51:31Z" in done.stderr


def test_who_cannot_be_reached_is_said_at_once() -> None:
    done = run("--api", "http://[::1]:1", "event", "watch", environment={})
    assert done.returncode == 1
    assert "tried http://[::1]:1: nothing listens there" in done.stderr


def sse(id: str) -> httpx.Response:
    response = ok({})
    return httpx.Response(200, headers=response.headers, text=f'id: {id}\ndata: {{"verb": "{id}"}}\n\n')


def test_following_goes_on_where_it_broke_and_tells_each_trouble_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ucloud.client.event.time.sleep", lambda s: None)
    servers = Servers(a=[ok({}), sse("1"), REFUSED, REFUSED, sse("2"), REFUSED, sse("3")])
    told: list[str] = []
    events = servers.client().follow_events(on_trouble=told.append)
    assert [next(events)["verb"] for _ in range(3)] == ["1", "2", "3"]
    assert told == ["the API does not answer"] * 2
    streams = [request for _, request in servers.asked if "follow" in request.url.params]
    assert streams[-1].headers["Last-Event-ID"] == "2"


@pytest.mark.parametrize("form", ["table", "json", "name"])
def test_watching_ends_with_ctrl_c(environment: dict[str, str], form: str) -> None:
    with start("event", "watch", *SINCE, "-o", form, environment=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == 0
    if form == "json":
        assert [json.loads(line)["verb"] for line in lines] == ["placed", "running", "silent", "led"]
    elif form == "name":
        assert lines == ["vm/web\n", "vm/web\n", "host/h1\n", "lock/scheduler\n"]
    else:
        assert lines[1] == "2026-11-22T14:51:33Z  vm/web  h1  running  why running\n"


def test_only_json_is_wider_than_the_terminal(environment: dict[str, str]) -> None:
    code, shown = on_terminal("event", "list", environment=environment, columns=20)
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 20
    code, shown = on_terminal("event", "list", "-o", "json", environment=environment, columns=20)
    assert len(json.loads(shown)) == 4
