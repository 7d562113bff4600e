"""Leaving a long computation in the middle, between two forward passes of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class StoppedError(Exception):
    """The user does not want to wait for what is being computed."""


@contextmanager
def interrupted_by(stopped: Callable[[], bool], network: torch.nn.Module) -> Iterator[None]:
    """Leave a long evaluation between two of its forward passes once `stopped` says so."""

    def check(*_: object) -> None:
        if stopped():
            raise StoppedError

    handle = network.register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()
