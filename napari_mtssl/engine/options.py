"""How the training loop reports, apart from what it trains. Knows no torch: the window imports it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainOptions:
    """Rhythm of the training loop; none of it changes the weights that come out.

    Attributes
    ----------
    validate_every, checkpoint_every : int
        Steps.
    report_seconds : float
        `Stepped` events come at most this often (the first one right after the first step).
    pseudo_seconds : float
        `PseudoLabels` events come at most this often; 0 turns them off.
    preview_seconds : float
        What the user looks at is predicted anew this often; 0 turns previews off.
    threads : int, optional
        CPU threads; by default one less than there are cores.
    """

    validate_every: int = 200
    checkpoint_every: int = 200
    report_seconds: float = 0.2
    pseudo_seconds: float = 1.0
    preview_seconds: float = 5.0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.validate_every < 1 or self.checkpoint_every < 1:
            raise ValueError(
                "validate_every and checkpoint_every are numbers of steps and must be at least 1."
            )
        if self.threads is not None and self.threads < 1:
            raise ValueError("threads must be at least 1.")
