"""Which network a connection came in on, by its interface's number; for the metadata daemon, which is in no network itself."""

import fcntl
import socket
import struct

from ucloud.driver.overlay import names

SIOCGIFNAME = 0x8910
IFREQ = "16si20x"  # netdevice(7): a name, a number


def vni(listener: socket.socket, interface: int) -> int:
    """0 for what is no network's bridge. listener: any socket of the host."""
    try:
        told = fcntl.ioctl(listener, SIOCGIFNAME, struct.pack(IFREQ, b"", interface))
        return names.vni(struct.unpack(IFREQ, told)[0].rstrip(b"\0").decode("ascii"))
    except (OSError, ValueError):
        return 0
