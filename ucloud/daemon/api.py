"""The API daemon: answers REST requests. Several may run; each of them answers everything."""

from ipaddress import IPv6Address, IPv6Network

import msgspec

from ucloud.api.server import serve
from ucloud.api.services import Services
from ucloud.api.watching import SharedView
from ucloud.base.clock import SystemClock
from ucloud.base.config import Config, Network
from ucloud.daemon import drivers
from ucloud.daemon.process import open_store


def main(config: Config) -> None:
    """Run until SIGTERM."""

    def open_services() -> Services:
        store, clock = open_store(config), SystemClock()
        view = SharedView(store, clock)
        return Services(
            store=store,
            view=view,
            pools=drivers.pool,
            clock=clock,
            network=settings(config),
            cloud=config,
            url=url_of(config.api.listen, config.host.address),
        )

    serve(open_services, unix=config.api.socket or None, tcp=[config.api.listen] if config.api.listen else [])


def settings(config: Config) -> Network:
    """With the hosts' own prefix, which no network of VMs may have; by default it follows from this one's address."""
    own = str(IPv6Network((config.host.address, 64), strict=False))
    return msgspec.structs.replace(config.network, underlay=config.network.underlay or (own,))


def url_of(listen: str, address: str) -> str:
    """Where other machines reach an API that listens there, on the machine with this address; "" where they cannot."""
    bound, _, port = listen.rpartition(":")
    if not listen or IPv6Address(bound.strip("[]")).is_loopback:
        return ""
    return f"http://{listen}" if IPv6Address(bound.strip("[]")) != IPv6Address("::") else f"http://[{address}]:{port}"
