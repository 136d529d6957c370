"""User data of this host's VMs: what a manifest names by its hash. Used by the host's loop and its workers."""

from ucloud.base.errors import Temporary
from ucloud.model.key import HostBlob
from ucloud.model.vm import Manifest
from ucloud.store.view import View


class UserData:
    """view: of this host's manifests, which has the blobs too."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __call__(self, manifest: Manifest) -> bytes:
        """Raises Temporary."""
        if not manifest.user_data:
            return b""
        blob = self._view.get(HostBlob, HostBlob.at(manifest.host, "blob", manifest.user_data))
        if blob is None:
            raise Temporary(f"the user data of {manifest.name} is not here")
        return blob.record.data

    def is_here(self, manifest: Manifest) -> bool:
        key = HostBlob.at(manifest.host, "blob", manifest.user_data)
        return not manifest.user_data or self._view.get(HostBlob, key) is not None
