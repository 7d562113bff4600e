"""The processes that train together, as the loop sees them: one that is alone. Several are in `parallel`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from napari_mtssl.methods.base import Method


class Alone:
    """One process: nothing to agree on."""

    rank, world = 0, 1

    def share(self, method: Method) -> None:
        """Do nothing."""

    @contextmanager
    def step(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Do nothing."""

    def agree(self, *said: bool) -> tuple[bool, ...]:
        """Give back what was said."""
        return said

    def same(self, keys: Mapping[int, Any]) -> bool:
        """Say yes."""
        return True

    def told(self, words: str) -> str:
        """Give the words back."""
        return words
