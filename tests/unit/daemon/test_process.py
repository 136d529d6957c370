"""A daemon that is told to stop does, whatever it is doing at this moment."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

START = """
import threading, time
from ucloud.daemon import process

stop = process.stop_on_signals()
"""
IN_A_WAIT = """
while not stop.wait(1e-6):  # as often as possible in the middle of a wait
    pass
"""
ANOTHER_THREAD = """
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # by this thread alone
print("ready", flush=True)
stop.wait()
"""
SOON = "process.END_S = 0.5\n"
STEP_HANGS = """
from concurrent.futures import ThreadPoolExecutor

ThreadPoolExecutor(1).submit(time.sleep, 1000)  # Python waits for it before it ends
stop.wait()
"""
MAIN_THREAD_HANGS = """
import ctypes

mutex = ctypes.create_string_buffer(64)
lock = ctypes.CDLL(None).pthread_mutex_lock
lock(mutex)
print("ready", flush=True)
lock(mutex)  # for ever, in C: no handler written in Python runs here
"""
END_HANGS = """
class Hangs:
    def __del__(self):
        time.sleep(1000)  # while the interpreter is being torn down and runs no thread any more

hangs = Hangs()
stop.wait()
"""
ROUNDS = 20


@contextmanager
def daemon(body: str) -> Iterator["subprocess.Popen[bytes]"]:
    """It has said that it is ready."""
    ready = "" if "ready" in body else 'print("ready", flush=True)\n'
    with subprocess.Popen([sys.executable, "-c", START + ready + body], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def test_sigterm_in_the_middle_of_a_wait_stops() -> None:
    for _ in range(ROUNDS):
        with daemon(IN_A_WAIT) as waiting:
            waiting.terminate()
            assert waiting.wait(60) == 0


@pytest.mark.parametrize("body", [STEP_HANGS, MAIN_THREAD_HANGS, END_HANGS])
def test_what_hangs_is_ended(body: str) -> None:
    with daemon(SOON + body) as hanging:
        hanging.terminate()
        assert hanging.wait(60) == -signal.SIGALRM


def test_sigterm_that_the_main_thread_does_not_see_stops() -> None:
    """The kernel hands a signal to any thread: to another one, often, of a process that was frozen a moment ago. Python calls
    handlers in the main thread alone, which sleeps on."""
    with daemon(ANOTHER_THREAD) as waiting:
        waiting.terminate()
        assert waiting.wait(60) == 0
