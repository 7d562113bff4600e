"""The mailbox between a listener (window, command line) and the training loop. Knows no torch."""

from __future__ import annotations

from threading import Condition

Box = tuple[int, int, int, int]
Sight = tuple[str, str, str]


class Control:
    """Requests to a running training loop; every member may be used from any thread.

    Examples
    --------
    >>> control = Control()
    >>> control.pause()
    >>> control.paused
    True
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self._paused = False
        self._stopped = False
        self._viewport: tuple[int, Box] | None = None
        self._sight: Sight | None = None
        self._asks = 0

    def pause(self) -> None:
        """Ask the loop to wait before its next step."""
        with self._condition:
            self._paused = True

    def resume(self) -> None:
        """Let a paused loop go on."""
        with self._condition:
            self._paused = False
            self._condition.notify_all()

    def stop(self) -> None:
        """Ask the loop to end before its next step; also ends a pause. Cannot be taken back."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    @property
    def paused(self) -> bool:
        """Whether a pause was asked for and not ended."""
        return self._paused

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for."""
        return self._stopped

    @property
    def viewport(self) -> tuple[int, Box] | None:
        """What the user looks at: ``(image_id, (row0, col0, row1, col1))`` in level-0 pixels, or None."""
        return self._viewport

    @viewport.setter
    def viewport(self, value: tuple[int, Box] | None) -> None:
        self._viewport = value  # one assignment of an immutable value: atomic

    @property
    def sight(self) -> Sight | None:
        """Where the user wants to see which class: ``(kind, class, way)``; None: where the method chooses."""
        return self._sight

    @sight.setter
    def sight(self, value: Sight | None) -> None:
        self._sight = value
        self._asks += 1

    @property
    def asks(self) -> int:
        """How often `sight` was set: the same again is asked for of another image, or of newer weights."""
        return self._asks

    def wait_while_paused(self, timeout: float | None = None) -> bool:
        """Sleep until resumed or stopped.

        Parameters
        ----------
        timeout : float, optional
            Give up after so many seconds.

        Returns
        -------
        bool
            False if the pause was still on when the time was over.
        """
        with self._condition:
            return self._condition.wait_for(lambda: self._stopped or not self._paused, timeout)
