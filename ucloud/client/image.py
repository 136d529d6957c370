"""Images, by the SDK."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ucloud.base.errors import Conflict, Error, Invalid, NotFound, Temporary
from ucloud.base.ids import is_name
from ucloud.client.calls import Calls, Json, given, part
from ucloud.client.local_file import LocalFile
from ucloud.client.vm import merged

TRIES = 12  # without a byte more
SHORT_PAUSE_S, PAUSE_S = 0.2, 5.0

OnProgress = Callable[[str, int, int], None]


class UploadBroken(Temporary):
    """It can be gone on with: by the same call."""


class Images(Calls):
    def upload_image(
        self,
        name: str,
        path: Path,
        pool: str | None = None,
        on_progress: OnProgress | None = None,
        user: str | None = None,
    ) -> tuple[Json, Json]:
        """The image, and the action to wait for: its examination. Nothing is sent of an image of that name and content that is
        there already; an upload that broke off is gone on with.

        `on_progress(what, bytes_done, bytes_in_all)`: what is "checksum" or "upload". The file is read twice, as its checksum
        is announced before its bytes; what cannot become an image (its name, its pool) is refused before that. user: as whom
        to log in to its guests, root if not given.

        Raises UploadBroken when the connection breaks for good: what has arrived is kept for a day, and the same call goes on
        with it. After any other error, and when interrupted, nothing is left of an upload.
        """
        tell = on_progress or (lambda what, done, total: None)
        with LocalFile(path) as file:
            self._check_name(name, file.size)
            self._check_pool(pool)
            sha256 = file.sha256(lambda done, total: tell("checksum", done, total))
            wishes = given({"pool": pool, "user": user})
            answer = self._post("/v1/images", {"name": name, "bytes": file.size, "sha256": sha256} | wishes)
            image: Json = part(answer, "image")
            try:
                self._send(image, file, lambda done, total: tell("upload", done, total))
            except Temporary:
                raise
            except BaseException:
                with contextlib.suppress(Error):  # the first error is the one to tell
                    self._delete("image", image["id"])
                raise
        return image, part(answer, "action")

    def _check_name(self, name: str, size: int) -> None:
        """Where it is clear before a large file is read that it cannot have this name."""
        if not is_name(name):
            raise Invalid(
                f"{name!r} cannot be the name of an image: take a-z, 0-9 and -, at most 63 of them", {"name": "unfit"}
            )
        with contextlib.suppress(NotFound):
            if self.image(name)["bytes"] != size:
                raise Conflict(f"there is another image named {name} already", {"name": "taken"})

    def _check_pool(self, pool: str | None) -> None:
        if pool:
            self._thing("pool", pool)
            return
        names = [found["name"] for found in self._all("pools", {})]  # one that was just made may be missing
        if len(names) > 1:
            raise Invalid(f"say which pool: {', '.join(names)}", {"pool": "is missing"})

    def _send(self, image: Json, file: LocalFile, tell: Callable[[int, int], None]) -> None:
        """Goes on where the connection broke, as long as that helps."""
        tries_left = TRIES
        while not image["uploaded_at"]:
            start = image["received_bytes"]
            try:
                self._transport.upload(
                    f"/v1/images/{image['id']}/data?start={start}", file.read(start, tell), file.size - start
                )
                return
            except (Temporary, Conflict) as error:  # a Conflict: its bytes are not where we thought
                image = self._look_again(image, error, file.size)
                tries_left = TRIES if image["received_bytes"] > start else tries_left - 1
                if not tries_left:
                    raise _broken(error, image["received_bytes"], file.size) from error

    def _look_again(self, image: Json, error: Error, size: int) -> Json:
        time.sleep(min(error.retry_s, PAUSE_S) if isinstance(error, Temporary) else SHORT_PAUSE_S)
        try:
            return self.image(image["id"])
        except Temporary as still_away:
            raise _broken(still_away, image["received_bytes"], size) from error

    def clone_image(self, source: str, name: str) -> tuple[Json, Json]:
        """The new image, and the action to wait for. It does not need its source any more when it is ready."""
        answer = self._post("/v1/images", {"name": name, "source": source})
        return part(answer, "image"), part(answer, "action")

    def set_image(
        self,
        image: str,
        name: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        delete_protection: bool | None = None,
        user: str | None = None,
    ) -> Json:
        """The image, changed; as `set_vm`."""
        changes = given({"name": name, "delete_protection": delete_protection, "user": user})
        return self._change("image", image, lambda now: changes | merged("labels", now, labels))

    def images(self, name: str | None = None, label: str | None = None) -> Iterator[Json]:
        return self._all("images", {"name": name, "label": label})

    def image(self, image: str) -> Json:
        return self._thing("image", image)

    def delete_image(self, image: str) -> Json:
        """The action to wait for. Raises Conflict while it is protected, or VMs use it (details: used_by)."""
        return self._delete("image", image)


def _broken(error: Error, received: int, size: int) -> Error:
    if not isinstance(error, Temporary):
        return error
    message = f"the upload broke off after {received * 100 // size} %: {error.message}; what has arrived is kept for a day"
    return UploadBroken(message, error.retry_s, error.details)
