"""Weights between the tasks of one network: one interface, and the rules that need no gradient.

A balancer sees the unweighted loss of every task and says what each counts. Everything it remembers is in
buffers, so that it travels in a checkpoint and a resumed run goes on exactly. Nothing is read off the device.

`GradNorm` and `DBMTL`, which look at gradients, are in `balance_gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

_TINY = 1e-8
UNKNOWN = -1.0  # instead of nan, which a checkpoint's check of the weights would stumble over


@dataclass(frozen=True)
class BalanceSettings:
    """What balancers can be told; each takes what it knows.

    Attributes
    ----------
    alpha : float
        GradNorm: how strongly tasks are pulled back to a common rate of training.
    rate : float
        Learning rate of the weights.
    every : int
        GradNorm and DB-MTL: steps from one look at gradients to the next.
    start : {'mean', 'first', 'theory'}
        GradNorm's L(0): mean of the first 20 losses, the first loss, or the loss of a network that knows
        nothing.
    form : {'softmax', 'clamped', 'raw'}
        GradNorm's weights: positive by construction, the paper's kept above 0.001, or the paper's as they
        are.
    theory : mapping of str to float
        Loss of each task for a network that knows nothing, such as ``log C``.
    heavy : str, optional
        Task whose gradient is had by subtraction, since its own backward pass is the long one.
    """

    alpha: float = 0.6
    rate: float = 0.01
    every: int = 1
    start: str = "mean"
    form: str = "softmax"
    theory: Mapping[str, float] | None = None
    heavy: str | None = None


class Balancer(nn.Module):
    """Weight of each task, step by step.

    The loop calls `weigh` between forward and backward, and `learn` between backward and the optimiser.

    Parameters
    ----------
    tasks : sequence of str
    settings : BalanceSettings, optional

    Attributes
    ----------
    weight : Tensor, shape (T,)
        Of the last step; ones at the beginning.
    norm : Tensor, shape (T,)
        Norm of each task's weighted gradient when it was last looked at; -1 where it never was.
    """

    weight: torch.Tensor
    norm: torch.Tensor
    count: torch.Tensor
    looks_at_gradients = False

    def __init__(self, tasks: Sequence[str], settings: BalanceSettings | None = None) -> None:
        super().__init__()
        if len(set(tasks)) != len(tasks) or not tasks:
            raise ValueError("A balancer needs at least one task, each with a name of its own.")
        self.tasks = tuple(tasks)
        self.settings = settings or BalanceSettings()
        self.register_buffer("weight", torch.ones(len(tasks)))
        self.register_buffer("norm", torch.full((len(tasks),), UNKNOWN))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._steps: int | None = None
        self._weighed = False

    def weigh(
        self, losses: Mapping[str, torch.Tensor], shared: Sequence[torch.Tensor] = ()
    ) -> dict[str, torch.Tensor]:
        """Say what each task counts in this step.

        Parameters
        ----------
        losses : mapping of str to Tensor, scalars with gradient
            Of the tasks this batch can teach; one without labels in the batch is missing.
        shared : sequence of Tensor
            Weights of the last layer that all tasks share.

        Returns
        -------
        dict of str to Tensor, scalars without gradient
        """
        unknown = [name for name in losses if name not in self.tasks]
        if unknown:
            raise ValueError(f"'{unknown[0]}' is none of the tasks {', '.join(self.tasks)}.")
        self._look(losses, shared)
        self._weighed = True
        with torch.no_grad():
            values = {name: loss.detach().float() for name, loss in losses.items()}
            return self._weigh(values)

    @torch.no_grad()
    def learn(self, shared: Sequence[torch.Tensor] = ()) -> None:
        """Learn from the step that was weighed; ``.grad`` of `shared` is that of the weighted sum."""
        if not self._weighed:
            return
        self._weighed = False
        self._learn(shared)
        self._steps = self.steps + 1
        self.count.fill_(self._steps)

    @property
    def steps(self) -> int:
        """Steps so far; read off the device once after a start or a resume."""
        if self._steps is None:
            self._steps = int(self.count)
        return self._steps

    def load_state_dict(self, *args: object, **kwargs: object) -> object:
        """Load buffers; the number of steps is theirs."""
        self._steps = None
        return super().load_state_dict(*args, **kwargs)  # type: ignore[arg-type]

    def report(self) -> dict[str, dict[str, float]]:
        """``weight`` and, once looked at, ``norm`` of each task, to be plotted; reads the device."""
        out = {"weight": dict(zip(self.tasks, self.weight.tolist(), strict=True))}
        norms = dict(zip(self.tasks, self.norm.tolist(), strict=True))
        known = {name: value for name, value in norms.items() if value >= 0}
        return out | ({"norm": known} if known else {})

    # -- what a rule adds ----------------------------------------------------------------------------------

    def _look(self, losses: Mapping[str, torch.Tensor], shared: Sequence[torch.Tensor]) -> None:
        """Look at the gradients of single tasks while the graph is there."""

    def _weigh(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of the tasks in `values`."""
        return {name: self.weight[self.index(name)].clone() for name in values}

    def _learn(self, shared: Sequence[torch.Tensor]) -> None:
        """Change the weights."""

    def index(self, task: str) -> int:
        """Place of a task in the vectors."""
        return self.tasks.index(task)

    def present(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Places of the tasks of this batch, (t,)."""
        return torch.tensor([self.index(name) for name in values], device=self.weight.device)


class Equal(Balancer):
    """Every task counts one."""


class SmallAdam(nn.Module):
    """Adam for one small vector, kept in buffers, with a gradient that is given.

    An element that gets no gradient in a step is not moved and its moments stay.
    """

    first: torch.Tensor
    second: torch.Tensor
    times: torch.Tensor

    def __init__(self, size: int, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__()
        self.rate, self.betas = rate, betas
        for name in ("first", "second", "times"):
            self.register_buffer(name, torch.zeros(size))

    @torch.no_grad()
    def move(self, values: torch.Tensor, gradient: torch.Tensor, where: torch.Tensor) -> None:
        """Move `values` (in place) where `where` is true."""
        one, two = self.betas
        first = torch.lerp(self.first, gradient, 1 - one)
        second = torch.lerp(self.second, gradient**2, 1 - two)
        times = self.times + 1
        step = self.rate * (first / (1 - one**times)) / ((second / (1 - two**times)).sqrt() + _TINY)
        for old, new in ((self.first, first), (self.second, second), (self.times, times)):
            old.copy_(torch.where(where, new, old))
        values.sub_(torch.where(where, step, torch.zeros_like(step)))


class Uncertainty(Balancer):
    """Each task by the inverse of a variance that is learnt: ``L_i exp(-s_i) + s_i``.

    The gradient for ``s_i`` is ``1 - L_i exp(-s_i)``, so that the weight tends to one over the loss.

    References
    ----------
    .. [1] Kendall, Gal, Cipolla, Multi-task learning using uncertainty to weigh losses, CVPR 2018, Eq. 10.
    """

    log_variance: torch.Tensor

    def __init__(self, tasks: Sequence[str], settings: BalanceSettings | None = None) -> None:
        super().__init__(tasks, settings)
        self.register_buffer("log_variance", torch.zeros(len(tasks)))
        self.adam = SmallAdam(len(tasks), self.settings.rate)

    def _weigh(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.weight.copy_(torch.exp(-self.log_variance))
        gradient, where = torch.zeros_like(self.weight), torch.zeros_like(self.weight, dtype=torch.bool)
        for name, value in values.items():
            place = self.index(name)
            gradient[place] = 1.0 - value * self.weight[place]
            where[place] = torch.isfinite(value)
        self._due = (torch.where(where, gradient, torch.zeros_like(gradient)), where)
        return super()._weigh(values)

    def _learn(self, shared: Sequence[torch.Tensor]) -> None:
        self.adam.move(self.log_variance, *self._due)
        self.log_variance.clamp_(-6.0, 6.0)


class FAMO(Balancer):
    """Weights by which all losses shrink at the same rate in the logarithm; one backward pass.

    ``z = softmax(xi)``, the step descends ``sum_i c z_i log L_i`` (so task i counts ``c z_i / L_i``, and the
    counts are scaled to a sum of T), and ``xi`` follows the change of ``log L`` that the step brought. The
    authors evaluate the batch again after the step; here the next batch's losses stand for that, smoothed
    over steps, so that no further forward pass is needed.

    References
    ----------
    .. [1] Liu, Feng, Stone, Liu, FAMO: fast adaptive multitask optimization, NeurIPS 2023, Algorithm 1.
    """

    logit: torch.Tensor
    last: torch.Tensor
    DECAY = 1e-3  # of xi, the authors' gamma
    MEMORY = 0.9
    NEVER = 99.0  # no logarithm of a loss is as large

    def __init__(self, tasks: Sequence[str], settings: BalanceSettings | None = None) -> None:
        super().__init__(tasks, settings)
        self.register_buffer("logit", torch.zeros(len(tasks)))
        self.register_buffer("last", torch.full((len(tasks),), self.NEVER))
        self.adam = SmallAdam(len(tasks), self.settings.rate)

    def _weigh(self, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        share = torch.softmax(self.logit, 0)
        now = self.last.clone()
        for name, value in values.items():
            place = self.index(name)
            old = self.last[place]
            logarithm = value.clamp_min(_TINY).log()
            now[place] = torch.where(old < self.NEVER, torch.lerp(logarithm, old, self.MEMORY), logarithm)
        here = torch.isin(torch.arange(len(self.tasks), device=share.device), self.present(values))
        before = self.last < self.NEVER
        fell = torch.where(before, self.last - now, torch.zeros_like(now))  # how much each logarithm shrank
        where = here & torch.isfinite(fell) & before
        fell = torch.nan_to_num(fell)
        gradient = share * (fell - (share * fell).sum()) + self.DECAY * self.logit
        self._due = (gradient, where)
        self.last.copy_(torch.where(torch.isfinite(now), now, self.last))
        level = torch.where(self.last < self.NEVER, self.last, torch.zeros_like(self.last))
        count = share / level.exp().clamp_min(1e-4)
        self.weight.copy_(count * len(self.tasks) / count.sum())
        return super()._weigh(values)

    def _learn(self, shared: Sequence[torch.Tensor]) -> None:
        self.adam.move(self.logit, *self._due)


def make_balancer(
    name: str, tasks: Sequence[str], settings: BalanceSettings | None = None
) -> Balancer | None:
    """Make a balancer by its name.

    Parameters
    ----------
    name : str
        ``fixed`` (None: the method's own weights hold), or one of `BALANCERS`.
    tasks : sequence of str
        With fewer than two there is nothing to balance, and the answer is None.
    settings : BalanceSettings, optional

    Raises
    ------
    ValueError
        If there is no such rule.
    """
    from napari_mtssl.learning.balance_gradients import DBMTL, GradNorm

    rules: dict[str, Callable[..., Balancer]] = {
        "equal": Equal,
        "uncertainty": Uncertainty,
        "famo": FAMO,
        "gradnorm": GradNorm,
        "dbmtl": DBMTL,
    }
    if name != "fixed" and name not in rules:
        raise ValueError(f"There is no balancing '{name}'. Choose one of: fixed, {', '.join(rules)}.")
    if name == "fixed" or len(tasks) < 2:
        return None
    return rules[name](tasks, settings)


def task_losses(
    losses: Mapping[str, torch.Tensor], weights: Mapping[str, float], tasks: Mapping[str, str]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Sum the losses of each task up in the method's own proportions.

    Within a task the method's weights hold, scaled so that the largest is one; what a whole task counts is
    the balancer's to say.

    Parameters
    ----------
    losses, weights : mapping
        As in `StepOutput`.
    tasks : mapping of str to str
        Task of each loss; a loss that is not named belongs to none.

    Returns
    -------
    totals : dict of str to Tensor
        Loss of each task.
    shares : dict of str to float
        Weight of each loss within its task.
    """
    largest: dict[str, float] = {}
    for name, task in tasks.items():
        if name in losses:
            largest[task] = max(largest.get(task, 0.0), float(weights[name]))
    totals: dict[str, torch.Tensor] = {}
    shares: dict[str, float] = {}
    for name, task in tasks.items():
        if name not in losses:
            continue
        shares[name] = float(weights[name]) / largest[task] if largest[task] > 0 else 0.0
        part = shares[name] * losses[name]
        totals[task] = totals[task] + part if task in totals else part
    return totals, shares
