"""Uploads, by the SDK and by the command line: what is read, sent, gone on with and left."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from tests.golden.served import Served, served
from tests.unit.api.cloud import DATA
from tests.unit.cli.test_client import BROKEN, Servers, ok, refusal
from ucloud.base.errors import Conflict, Invalid, NotFound, Temporary
from ucloud.cli import transfer
from ucloud.cli.main import main
from ucloud.client import Client, UploadBroken
from ucloud.client import image as sdk
from ucloud.client.local_file import LocalFile
from ucloud.model.image import Image, Pool

LARGE = b"x" * 600_000
POOLS = ok({"pools": [{"name": "default"}], "next_cursor": None})


def shown(received: int = 0, uploaded_at: str | None = None, size: int = len(LARGE)) -> httpx.Response:
    image = {"id": "image-1", "received_bytes": received, "uploaded_at": uploaded_at, "bytes": size}
    return ok({"image": image, "action": {"id": "a"}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(LARGE)
    return path


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "PAUSE_S", 0)
    monkeypatch.setattr(sdk, "SHORT_PAUSE_S", 0)


def scripted(*answers: httpx.Response | Exception) -> Servers:
    """The first two answers are that the name is free, and which pools there are."""
    return Servers(a=[refusal(404, "not_found"), POOLS, *answers])


def sent(servers: Servers) -> list[tuple[str, str, int]]:
    """What was asked after name and pool were looked at."""
    return [(request.method, str(request.url.query, "ascii"), len(request.content)) for _, request in servers.asked[2:]]


def test_upload_is_announced_with_its_checksum(file: Path) -> None:
    servers = scripted(shown(), ok({}))
    told: list[tuple[str, int, int]] = []
    image, action = servers.client().upload_image("tiny", file, None, lambda *progress: told.append(progress))
    assert (image["id"], action["id"]) == ("image-1", "a")
    assert hashlib.sha256(LARGE).hexdigest() in servers.asked[2][1].content.decode()
    assert sent(servers)[1:] == [("PUT", "start=0", len(LARGE))]
    assert ("checksum", len(LARGE), len(LARGE)) in told
    assert told[-1] == ("upload", len(LARGE), len(LARGE))


def test_upload_goes_on_where_it_broke_off(file: Path) -> None:
    servers = scripted(shown(), BROKEN, shown(400_000), BROKEN, shown(400_000), refusal(409, "conflict"), shown(5), ok({}))
    servers.client().upload_image("tiny", file)
    puts = [(query, size) for method, query, size in sent(servers) if method == "PUT"]
    assert puts == [("start=0", 600_000), ("start=400000", 200_000), ("start=400000", 200_000), ("start=5", 599_995)]


def test_upload_begun_by_an_earlier_call_is_gone_on_with(file: Path) -> None:
    servers = scripted(shown(123), ok({}))
    servers.client().upload_image("tiny", file)
    assert sent(servers)[1:] == [("PUT", "start=123", len(LARGE) - 123)]


@pytest.mark.parametrize("answers", [[shown(uploaded_at="now")], [shown(), BROKEN, shown(uploaded_at="now")]])
def test_what_is_there_is_not_sent_again(file: Path, answers: list[httpx.Response | Exception]) -> None:
    servers = scripted(*answers)
    servers.client().upload_image("tiny", file)
    assert len(sent(servers)) == len(answers)


def test_upload_that_goes_on_breaking_keeps_what_has_arrived(file: Path) -> None:
    breaking: list[httpx.Response | Exception] = [BROKEN, shown(300_000)] * (sdk.TRIES + 1)
    servers = scripted(shown(), *breaking)
    with pytest.raises(UploadBroken, match="broke off after 50 %: the API does not answer; what has arrived is kept"):
        servers.client().upload_image("tiny", file)
    assert "DELETE" not in [method for method, _, _ in sent(servers)]


def test_api_that_stays_away_keeps_what_has_arrived(file: Path) -> None:
    servers = scripted(shown(), BROKEN)
    with pytest.raises(UploadBroken, match="broke off after 0 %"):
        servers.client(patience_s=0).upload_image("tiny", file)


def test_upload_that_was_refused_leaves_no_image(file: Path) -> None:
    servers = scripted(shown(), refusal(422, "invalid"), shown(), ok({"action": {}}))
    with pytest.raises(Invalid, match="why"):
        servers.client().upload_image("tiny", file)
    assert [(r.method, r.url.path) for _, r in servers.asked][-1] == ("DELETE", "/v1/images/image-1")


@pytest.mark.parametrize(
    ("servers", "name", "pool", "kind"),
    [
        (Servers(a=[ok({})]), "Not a name", None, Invalid),
        (Servers(a=[shown(size=1)]), "tiny", None, Conflict),
        (Servers(a=[refusal(404, "not_found")]), "tiny", "nowhere", NotFound),
        (
            Servers(a=[refusal(404, "not_found"), ok({"pools": [{"name": "a"}, {"name": "b"}], "next_cursor": None})]),
            "tiny",
            None,
            Invalid,
        ),
    ],
)
def test_name_and_pool_are_looked_at_before_the_file_is_read(
    file: Path, servers: Servers, name: str, pool: str | None, kind: type[Exception]
) -> None:
    told: list[str] = []
    with pytest.raises(kind):
        servers.client().upload_image(name, file, pool, lambda what, done, total: told.append(what))
    assert not told


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, 300_000)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, (1, 1))


@pytest.mark.parametrize("change", [grow, shrink, rewrite])
def test_file_that_changes_while_it_is_read_is_refused(file: Path, change: Callable[[Path], None]) -> None:
    with LocalFile(file) as local:
        chunks = local.read(0, lambda done, total: None)
        next(chunks)
        change(file)
        with pytest.raises(Invalid, match="has changed while it was read"):
            list(chunks)


@pytest.fixture
def cloud() -> Iterator[Served]:
    with served() as cloud:
        yield cloud


def run(cloud: Served, *words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="ucloud", env={"UCLOUD_API": cloud.url})


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: os.mkfifo(path), "is no regular file"),
        (lambda path: path.mkdir(), "is no regular file"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.symlink_to("/dev/null"), "is no regular file"),
        (lambda path: None, "cannot be read: No such file or directory"),
    ],
    ids=["fifo", "directory", "empty", "device", "missing"],
)
def test_what_cannot_be_uploaded(cloud: Served, tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    path = tmp_path / "disk"
    make(path)
    result = run(cloud, "image", "upload", "disk", str(path))
    assert result.exit_code == 2
    assert f"the file {str(path)!r} {why}\n" in result.stderr


def test_the_same_again_is_done_at_once_and_other_content_is_refused(cloud: Served, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(DATA)
    assert "disk is ready: image-" in run(cloud, "image", "upload", "disk", str(path)).stdout
    again = run(cloud, "image", "upload", "disk", str(path))
    assert again.exit_code == 0
    assert "disk was there already, and is ready: image-" in again.stdout
    path.write_bytes(DATA[::-1])
    other = run(cloud, "image", "upload", "disk", str(path))
    assert other.exit_code == 1
    assert "there is another image named disk already" in other.stderr


def test_ctrl_c_leaves_nothing_and_says_so(cloud: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(DATA)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ucloud.client.transport.Transport.upload", interrupt)
    result = run(cloud, "image", "upload", "disk", str(path))
    assert result.exit_code == 1
    assert "disk: interrupted; nothing is left of it" in result.stderr
    images = [cloud.cloud.read(Image, item.key) for item in cloud.cloud.store.list("image/").items]
    assert [image.name for image in images if not image.deleted_at] == ["tiny"]


def test_an_upload_that_broke_off_says_how_to_go_on(cloud: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a disk"
    path.write_bytes(DATA)
    upload = "ucloud.client.transport.Transport.upload"

    def broken(*arguments: object) -> None:
        raise Temporary("the connection broke", 0)

    with monkeypatch.context() as patches:
        patches.setattr(upload, broken)
        result = run(cloud, "image", "upload", "disk", str(path))
    assert result.exit_code == 1
    assert f"go on with: ucloud image upload disk '{path}'" in result.stderr
    assert "uploading 0 %" in run(cloud, "image", "list").stdout
    assert "disk is ready" in run(cloud, "image", "upload", "disk", str(path)).stdout


def test_list_and_show_say_that_an_upload_broke_off(cloud: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client([cloud.url]) as client:
        body = {"name": "disk", "bytes": 8, "sha256": "0" * 64}
        image = client._post("/v1/images", body).json()["image"]
    cloud.cloud.pool.arrived[image["id"]] = b"1234"
    cloud.cloud.pool.idle_s = 61
    cloud.cloud.catch_up()
    assert "uploading 50 %, broken off" in run(cloud, "image", "list").stdout
    assert "Go on with: ucloud image upload disk FILE" in run(cloud, "image", "show", "disk").stderr


def test_clone(cloud: Served) -> None:
    cloud.cloud.put(Pool(name="other", path="/other", created=""))
    result = run(cloud, "image", "clone", "tiny", "copy")
    assert result.exit_code == 0, result.stderr
    assert "copy is ready: image-" in result.stdout
    assert run(cloud, "image", "clone", "tiny", "copy").exit_code == 0
    assert "there is no image 'nothing'" in run(cloud, "image", "clone", "nothing", "more").stderr


def test_a_line_every_tenth_in_a_pipe() -> None:
    said: list[str] = []
    seconds = iter(range(1000))
    tell = transfer.lines("disk", said.append, lambda: float(next(seconds)))
    for done in range(0, 1001, 5):
        tell("upload", done << 20, 1000 << 20)
    assert len(said) == 11
    assert said[0] == "disk: uploading: 0 % of 1000.0M"
    assert said[1].startswith("disk: uploading: 10 % of 1000.0M, ")
    assert said[1].endswith(" s left")
    assert said[-1] == "disk: uploading: 100 % of 1000.0M"


def test_what_is_over_at_once_is_one_line_in_a_pipe() -> None:
    said: list[str] = []
    tell = transfer.lines("disk", said.append, lambda: 0.5)
    for done in range(0, 101, 5):
        tell("checksum", done << 20, 100 << 20)
    assert said == ["disk: computing the checksum: 0 % of 100.0M"]
