"""The API daemon: answers REST requests. Several may run; each of them answers everything."""

from ucloud.api.server import serve
from ucloud.api.services import Services
from ucloud.api.watching import SharedView
from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.daemon import drivers
from ucloud.daemon.process import open_store


def main(config: Config) -> None:
    """Run until SIGTERM."""

    def open_services() -> Services:
        store, clock = open_store(config), SystemClock()
        return Services(store=store, view=SharedView(store, clock), pools=drivers.pool, clock=clock)

    serve(open_services, unix=config.api.socket or None, tcp=[config.api.listen] if config.api.listen else [])
