"""The control daemon: the loops that decide. Several may run; of each loop one leads, the others stand by."""

import threading

from ucloud.base.clock import SystemClock
from ucloud.base.config import Config
from ucloud.daemon import drivers
from ucloud.daemon.process import open_store, process_name, stop_on_signals
from ucloud.image.loop import ImageLoop
from ucloud.loop import Decider, run_all
from ucloud.scheduler.decide import decide as schedule
from ucloud.store.lock import Leadership
from ucloud.store.view import View

SCHEDULER_READS = ("vm/", "pool/", "host/", "alive/", "status/", "placement/", "manifest/", "lock/scheduler")
IMAGE_READS = ("image/", "imagestate/", "pool/", "use/image/", "lock/image")


def main(config: Config) -> None:
    """Run until SIGTERM."""
    stop, scheduler_woken, image_woken = stop_on_signals(), threading.Event(), threading.Event()
    clock, store = SystemClock(), open_store(config)
    owner, ttl_s = process_name("control"), config.control.ttl_s
    leaderships = [Leadership(store, name, owner, ttl_s, clock) for name in ("scheduler", "image")]
    scheduler_view = View(store, SCHEDULER_READS, clock, scheduler_woken.set)
    image_view = View(store, IMAGE_READS, clock, image_woken.set)
    scheduler = Decider("scheduler", store, scheduler_view, schedule, clock, leaderships[0])
    images = ImageLoop(store, image_view, drivers.pool, clock, leaderships[1])
    try:
        run_all([(scheduler, scheduler_woken), (images, image_woken)], stop)
        for leadership in leaderships:
            leadership.release()
    finally:
        store.close()
