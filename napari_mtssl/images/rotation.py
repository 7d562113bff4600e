"""A part of what does not fit into memory, renewed while training goes on: read in the background, in turn.

What is in memory at a step follows from the step alone, so that a resumed run finds what an uninterrupted one
has: part ``n`` has the same content whenever it is read, and lies in slot ``n % slots`` until part ``n +
slots`` takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Part = TypeVar("Part")
AHEAD = 2  # parts read before they are due, at most: so much memory, and no more, waits


class Rotation(Generic[Part]):
    """Parts as they are at a step.

    Parameters
    ----------
    read : callable
        Reads a part by its number, the same each time; called in a thread of its own from the second step on.
    slots : int
        Parts that are in memory.
    every : int
        Steps after which one is renewed; 0 for never.
    step : int
        To begin at.

    Attributes
    ----------
    parts : list
        One for each slot.
    """

    def __init__(self, read: Callable[[int], Part], slots: int, every: int, step: int = 0) -> None:
        self._read, self.slots, self.every = read, slots, every
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="slides")
        self._coming: dict[int, Future[Part]] = {}
        self._newest = self._due(step)
        first = self._newest - slots + 1
        parts = {number % slots: read(number) for number in range(first, self._newest + 1)}
        self.parts = [parts[slot] for slot in range(slots)]
        self._look_ahead()

    def until(self, step: int) -> Iterator[tuple[int, Part]]:
        """Renew what is due at a step.

        Yields
        ------
        slot : int
            Place of the part.
        part

        Raises
        ------
        Exception
            What `read` raises.
        """
        due = self._due(step)
        for number in range(max(self._newest + 1, due - self.slots + 1), due + 1):
            coming = self._coming.pop(number, None)
            part = self._read(number) if coming is None else coming.result()
            self._newest = number
            self.parts[number % self.slots] = part
            yield number % self.slots, part
        self._look_ahead()

    def _due(self, step: int) -> int:
        """Give the newest part that is in memory at a step."""
        return self.slots - 1 + (step // self.every if self.every > 0 else 0)

    def _look_ahead(self) -> None:
        """Have the next parts read while the network learns."""
        if self.every < 1:
            return
        for number in range(self._newest + 1, self._newest + 1 + AHEAD):
            if number not in self._coming:
                self._coming[number] = self._reader.submit(self._read, number)
