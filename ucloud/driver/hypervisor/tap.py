"""Taps of this host, opened for a guest. Called by qemu.py and qemu_nics.py.

A guest's process lives in a network namespace where there is nothing, so it gets its taps as open descriptors. They are the
network driver's: made, named and removed by it (overlay/), in the network namespace of the daemon.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable

from ucloud.base.errors import Temporary

TUN = "/dev/net/tun"
TUNSETIFF, TUNGETIFF = 0x400454CA, 0x800454D2
IFF_TAP, IFF_PERSIST, IFF_NO_PI = 0x0002, 0x0800, 0x1000
IFREQ = struct.Struct("16sH22x")  # name, flags
IFREQ_DATA = struct.Struct("16sP16x")  # name, address of what follows
SIOCETHTOOL, ETHTOOL_GLINK = 0x8946, 0x0A


class EthtoolValue(ctypes.Structure):
    _fields_ = (("command", ctypes.c_uint32), ("value", ctypes.c_uint32))


def open_tap(name: str) -> int:
    """A descriptor of an existing tap that nobody has open. Frames carry no virtio header: what it asks of the kernel is done
    after the packet filter has looked (see overlay/plugs.py). Raises Temporary."""
    try:
        tap = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Temporary(f"{TUN} cannot be opened: {error.strerror}") from error
    try:
        fcntl.ioctl(tap, TUNSETIFF, IFREQ.pack(name.encode(), IFF_TAP | IFF_NO_PI))
        _, flags = IFREQ.unpack(fcntl.ioctl(tap, TUNGETIFF, bytes(IFREQ.size)))
        if not flags & IFF_PERSIST:  # it was made by the call above, and goes with the descriptor
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    except OSError as error:
        os.close(tap)
        raise Temporary(f"the tap {name} cannot be opened: {error.strerror}") from error
    return tap


def held_taps(names: Iterable[str]) -> frozenset[str]:
    """Those that somebody has open: a tap has a carrier exactly then."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        return frozenset(name for name in names if _has_carrier(asking, name))


def _has_carrier(asking: socket.socket, name: str) -> bool:
    link = EthtoolValue(ETHTOOL_GLINK)
    try:
        fcntl.ioctl(asking, SIOCETHTOOL, IFREQ_DATA.pack(name.encode(), ctypes.addressof(link)))
    except OSError:
        return False
    return bool(link.value)
