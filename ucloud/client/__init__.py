"""The SDK: ucloud from Python. The command line, the web pages, tests and customers use it.

    from ucloud.client import Client

    with Client(["http://[::1]:8642"]) as cloud:
        vm, action = cloud.create_vm("web", image="debian", memory_mib=1024)
        cloud.wait(action, timeout_s=300)

Errors are those of `ucloud.base.errors`; `Unreachable` is a Temporary: no address answered.
"""

from ucloud.client.calls import Json
from ucloud.client.client import Client
from ucloud.client.config import DEFAULT_ADDRESSES, ConfigError, addresses
from ucloud.client.console import Console, Ended, Message
from ucloud.client.image import UploadBroken
from ucloud.client.transport import TimedOut, Unreachable

__all__ = [
    "DEFAULT_ADDRESSES",
    "Client",
    "ConfigError",
    "Console",
    "Ended",
    "Json",
    "Message",
    "TimedOut",
    "Unreachable",
    "UploadBroken",
    "addresses",
]
