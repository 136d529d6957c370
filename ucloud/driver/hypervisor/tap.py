"""Taps of this host, opened for a guest. Called by qemu.py.

A guest's process lives in a network namespace where there is nothing, so it gets its taps as open descriptors. They are the
network driver's: made, named and removed by it (overlay/), in the network namespace of the daemon.
"""

import errno
import fcntl
import os
import struct

from ucloud.base.errors import Temporary

TUN = "/dev/net/tun"
TUNSETIFF, TUNGETIFF = 0x400454CA, 0x800454D2
IFF_TAP, IFF_PERSIST, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x0800, 0x1000, 0x4000
IFREQ = struct.Struct("16sH22x")  # name, flags


def open_tap(name: str) -> int:
    """A descriptor of an existing tap that nobody has open; frames carry virtio's header. Raises Temporary."""
    try:
        tap = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Temporary(f"{TUN} cannot be opened: {error.strerror}") from error
    try:
        fcntl.ioctl(tap, TUNSETIFF, IFREQ.pack(name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        _, flags = IFREQ.unpack(fcntl.ioctl(tap, TUNGETIFF, bytes(IFREQ.size)))
        if not flags & IFF_PERSIST:  # it was made by the call above, and goes with the descriptor
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    except OSError as error:
        os.close(tap)
        raise Temporary(f"the tap {name} cannot be opened: {error.strerror}") from error
    return tap
