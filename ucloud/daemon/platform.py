"""Which system's drivers `ucloud up` works with. The only file that knows."""

import sys

from ucloud.base.errors import Invalid
from ucloud.driver.link.contract import Links
from ucloud.driver.process.contract import Processes


def links() -> Links:
    if sys.platform == "linux":
        from ucloud.driver.link.linux import LinuxLinks

        return LinuxLinks()
    raise unsupported()


def processes() -> Processes:
    if sys.platform == "linux":
        from ucloud.driver.process.linux import LinuxProcesses

        return LinuxProcesses()
    raise unsupported()


def unsupported() -> Invalid:
    return Invalid(f"a cloud on one machine needs Linux; this is {sys.platform}")
