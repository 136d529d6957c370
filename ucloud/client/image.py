"""Images, by the SDK."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ucloud.base.errors import Error, Temporary
from ucloud.client.calls import Calls, Json, given, part

CHUNK_BYTES = 256 * 1024


class Images(Calls):
    def upload_image(
        self, name: str, path: Path, pool: str | None = None, on_progress: Callable[[str, int, int], None] | None = None
    ) -> tuple[Json, Json]:
        """Announce and upload a file. If that fails nothing is left of the image.

        `on_progress(what, bytes_done, bytes_in_all)`: what is "checksum" or "upload".
        """
        tell = on_progress or (lambda what, done, total: None)
        size = path.stat().st_size
        digest = hashlib.sha256()
        for chunk in _read(path, size, lambda done, total: tell("checksum", done, total)):
            digest.update(chunk)
        answer = self._post("/v1/images", {"name": name, "bytes": size, "sha256": digest.hexdigest()} | given({"pool": pool}))
        image: Json = part(answer, "image")
        try:
            self._put_data(image["id"], size, lambda: _read(path, size, lambda done, total: tell("upload", done, total)))
        except BaseException:
            with contextlib.suppress(Error):  # the first error is the one to tell
                self._delete("image", image["id"])
            raise
        return image, part(answer, "action")

    def _put_data(self, image: str, size: int, content: Callable[[], Iterator[bytes]]) -> None:
        """Again when the connection broke, unless all had arrived and only the answer was lost."""
        for tries_left in (2, 1, 0):
            try:
                self._transport.upload(f"/v1/images/{image}/data", content(), size)
            except Temporary as error:
                if self.image(image)["uploaded_at"]:
                    break
                if not tries_left:
                    raise
                time.sleep(error.retry_s)
            else:
                break

    def images(self, name: str | None = None) -> Iterator[Json]:
        return self._all("images", {"name": name})

    def image(self, image: str) -> Json:
        return self._thing("image", image)

    def delete_image(self, image: str) -> Json:
        return self._delete("image", image)


def _read(path: Path, size: int, tell: Callable[[int, int], None]) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            done += len(chunk)
            tell(done, size)
