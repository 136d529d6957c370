"""A daemon that is told to stop does."""

import subprocess
import sys

WAITS = """
from ucloud.daemon.process import stop_on_signals

stop = stop_on_signals()
print("ready", flush=True)
while not stop.wait(1e-6):  # as often as possible in the middle of a wait
    pass
"""
ROUNDS = 20


def test_sigterm_in_the_middle_of_a_wait_stops() -> None:
    for _ in range(ROUNDS):
        with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as daemon:
            try:
                assert daemon.stdout
                assert daemon.stdout.readline() == b"ready\n"
                daemon.terminate()
                assert daemon.wait(60) == 0
            finally:
                daemon.kill()
