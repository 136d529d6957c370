"""Several requests at once, in threads that die with the program: Ctrl-C need not wait for their answers."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from ucloud.base.errors import Error

THREADS = 8  # of 40 places that an API server has for requests that wait

Tell = Callable[[str], None]
R = TypeVar("R")


def each(names: Sequence[str], do: Callable[[int, Tell], R], tell: Tell) -> list[R | Error]:
    """What `do(index, tell)` answered or raised, in order. `tell` hears what the first says that is not done; of several, also
    how many are done."""
    todo, said = SimpleQueue[int](), SimpleQueue[tuple[int, str, R | BaseException | None]]()

    def work() -> None:
        with suppress(Empty):
            while True:
                work_on(todo.get_nowait())

    def work_on(index: int) -> None:
        try:
            said.put((index, "", do(index, lambda text: said.put((index, text, None)))))
        except BaseException as error:  # also a bug: the main thread must hear of it
            said.put((index, "", error))

    for index in range(len(names)):
        todo.put(index)
    for _ in range(min(THREADS, len(names))):
        threading.Thread(target=work, daemon=True).start()
    words: dict[int, str] = {}
    done: dict[int, R | Error] = {}
    while len(done) < len(names):
        index, text, result = said.get()
        if text:
            words[index] = text
        else:
            words.pop(index, None)
            if isinstance(result, BaseException) and not isinstance(result, Error):
                raise result
            done[index] = result  # type: ignore[assignment]  # R may be None
        tell(_summary(names, words, f"{len(done)} of {len(names)} done"))
    return [done[index] for index in range(len(names))]


def _summary(names: Sequence[str], words: dict[int, str], count: str) -> str:
    first = min(words, default=None)
    saying = f"{names[first]}: {words[first]}" if first is not None else ""
    return saying if len(names) == 1 else "; ".join(filter(None, (count, saying)))
