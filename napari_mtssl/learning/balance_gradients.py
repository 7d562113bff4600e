"""Balancers that look at each task's gradient on the last shared layer: GradNorm and DB-MTL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from napari_mtssl.learning.balance import UNKNOWN, Balancer, BalanceSettings, SmallAdam

_TINY = 1e-12
FIRST_STEPS = 20  # whose mean loss is L(0)
LOSS_MEMORY = 0.9  # of the smoothed losses
SMALLEST_LOSS = 1e-3  # below it, ratios of losses are noise
LARGEST_RATE = 20.0  # of r^alpha
SMALLEST_WEIGHT = 1e-3  # of the form 'clamped'


def relative_rates(losses: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """How much slower than the others each task trains: ``r_i``, with mean one.

    Parameters
    ----------
    losses, first : Tensor, shape (T,)
        Now, and at the beginning.

    References
    ----------
    .. [1] Chen et al., GradNorm, ICML 2018, section 3.1 (relative inverse training rate).
    """
    ratio = losses / first
    return ratio / ratio.mean()


def gradnorm_gradient(
    weights: torch.Tensor, norms: torch.Tensor, rates: torch.Tensor, alpha: float, limit: float | None = None
) -> torch.Tensor:
    """Gradient of GradNorm's loss for the weights, in closed form.

    With ``G_i = w_i g_i`` and targets ``mean(G) r_i^alpha`` held constant,
    ``d/dw_i sum_j |G_j - target_j| = sign(G_i - target_i) g_i``: no second derivative is needed.

    Parameters
    ----------
    weights, norms, rates : Tensor, shape (T,)
        ``w_i``, ``g_i`` (norm of the unweighted loss's gradient) and ``r_i``.
    alpha : float
    limit : float, optional
        Largest ``r_i^alpha``.

    Returns
    -------
    Tensor, shape (T,)

    References
    ----------
    .. [1] Chen et al., GradNorm, ICML 2018, Eq. 2 and Algorithm 1.
    """
    weighted = weights * norms
    pull = rates**alpha
    if limit is not None:
        pull = pull.clamp_max(limit)
    # the norm of a weighted gradient is |w| g; raw weights can turn negative
    return torch.sign(weighted.abs() - weighted.abs().mean() * pull) * torch.sign(weights) * norms


def through_softmax(gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Gradient for the logits of ``w = T softmax(omega)`` from the one for ``w``."""
    return weights * (gradient - (weights * gradient).sum() / len(weights))


class _LooksAtGradients(Balancer):
    """Gradients of single tasks on the shared layer, with one backward pass saved.

    The heavy task's gradient is what the others leave of the whole: ``grad L - sum_j w_j grad L_j``.
    """

    looks_at_gradients = True
    # Of several processes each has a share of every gradient; `engine.parallel` puts its sum here.
    add_up: Callable[[list[torch.Tensor]], list[torch.Tensor]] = staticmethod(lambda gradients: gradients)

    def __init__(self, tasks: Sequence[str], settings: BalanceSettings | None = None) -> None:
        super().__init__(tasks, settings)
        self._gradients: dict[str, list[torch.Tensor]] = {}
        self._heavy: str | None = None
        self._values: dict[str, torch.Tensor] = {}

    def due(self) -> bool:
        """Whether gradients are looked at in this step."""
        return self.steps % self.settings.every == 0

    def _look(self, losses: Mapping[str, torch.Tensor], shared: Sequence[torch.Tensor]) -> None:
        self._gradients, self._heavy = {}, None
        self._values = {name: loss.detach().float() for name, loss in losses.items()}
        if not self.due() or len(losses) < 2:
            return
        if not shared:
            raise ValueError("Balancing by gradients needs the weights of the last layer all tasks share.")
        if self.settings.heavy in losses and self._may_subtract():
            self._heavy = self.settings.heavy
        for name, loss in losses.items():
            if name != self._heavy:
                got = torch.autograd.grad(loss, list(shared), retain_graph=True)
                self._gradients[name] = self.add_up([g.detach().float() for g in got])

    def _may_subtract(self) -> bool:
        """Whether the heavy task's weight is surely not zero."""
        return True

    def _complete(self, shared: Sequence[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Unweighted gradients of every task of this step; `shared` have that of the whole."""
        if self._heavy is not None:
            rest = [p.grad.detach().float() for p in shared if p.grad is not None]
            for name, gradient in self._gradients.items():
                rest = [r - self.weight[self.index(name)] * g for r, g in zip(rest, gradient, strict=True)]
            weight = self.weight[self.index(self._heavy)]
            self._gradients[self._heavy] = [r / weight for r in rest]
        return self._gradients


class GradNorm(_LooksAtGradients):
    """Weights that pull the tasks' gradients to the same size, larger for tasks that lag behind.

    Parameters
    ----------
    tasks : sequence of str
    settings : BalanceSettings, optional
        ``form='softmax'`` (``w = T softmax(omega)``) cannot turn negative, with smoothed losses, a bound on
        ``r^alpha`` and no updates from losses that are nearly zero. ``'clamped'`` is the paper's, kept above
        0.001; ``'raw'`` is Algorithm 1 to the letter, whose weights can cross zero and then make a task
        ascend (the collapse at alpha = 6).

    Notes
    -----
    A larger alpha pulls tasks back to a common rate more strongly; it does not let them part.

    References
    ----------
    .. [1] Chen, Badrinarayanan, Lee, Rabinovich, GradNorm: gradient normalization for adaptive loss
       balancing in deep multitask networks, ICML 2018.
    """

    parameter: torch.Tensor
    first: torch.Tensor
    seen: torch.Tensor
    smooth: torch.Tensor

    def __init__(self, tasks: Sequence[str], settings: BalanceSettings | None = None) -> None:
        super().__init__(tasks, settings)
        if self.settings.form not in ("softmax", "clamped", "raw"):
            raise ValueError(f"GradNorm has no weights of the form '{self.settings.form}'.")
        count = len(tasks)
        softmax = self.settings.form == "softmax"
        self.register_buffer("parameter", torch.zeros(count) if softmax else torch.ones(count))
        self.register_buffer("first", torch.zeros(count))
        self.register_buffer("seen", torch.zeros(count))
        self.register_buffer("smooth", torch.full((count,), UNKNOWN))
        self.adam = SmallAdam(count, self.settings.rate)
        if self.settings.start == "theory":
            theory = self.settings.theory or {}
            missing = [task for task in tasks if task not in theory]
            if missing:
                raise ValueError(
                    f"The loss of a '{missing[0]}' that knows nothing is not known; set balance_start=mean."
                )
            self.first.copy_(torch.tensor([theory[task] for task in tasks]))
            self.seen.fill_(float(FIRST_STEPS))

    def _may_subtract(self) -> bool:
        return self.settings.form != "raw"

    def _learn(self, shared: Sequence[torch.Tensor]) -> None:
        self._remember()
        if len(self._values) < 2 or not self.due():
            return
        own = self._complete(shared)
        norms = torch.zeros_like(self.weight)
        losses = torch.ones_like(self.weight)
        here = torch.zeros_like(self.weight, dtype=torch.bool)
        guarded = self.settings.form == "softmax"
        for name, pieces in own.items():
            place = self.index(name)
            norms[place] = torch.linalg.vector_norm(torch.cat([g.flatten() for g in pieces]))
            losses[place] = self.smooth[place] if guarded else self._values[name]
            here[place] = True
        chosen = torch.nonzero(torch.tensor([t in own for t in self.tasks])).flatten()
        chosen = chosen.to(norms.device)
        weights, some = self.weight[chosen], norms[chosen]
        rates = relative_rates(losses[chosen], self.first[chosen].clamp_min(_TINY))
        limit = LARGEST_RATE if guarded else None
        gradient = torch.zeros_like(self.weight)
        gradient[chosen] = gradnorm_gradient(weights, some, rates, self.settings.alpha, limit)
        good = torch.isfinite(gradient).all() & torch.isfinite(norms).all()
        ready = (self.seen[chosen] >= self._steps_of_start()).all()
        if guarded:
            ready &= (losses[chosen] >= SMALLEST_LOSS).all()
        self.norm.copy_(torch.where(here, self.weight.abs() * norms, self.norm))
        self._move(torch.nan_to_num(gradient), here & good & ready)

    def _remember(self) -> None:
        """Take the step's losses into L(0) and into the smoothed losses."""
        until = self._steps_of_start()
        for name, value in self._values.items():
            place, good = self.index(name), torch.isfinite(value)
            early = good & (self.seen[place] < until)
            mean = self.first[place] + (value - self.first[place]) / (self.seen[place] + 1)
            self.first[place] = torch.where(early, mean, self.first[place])
            self.seen[place] += early.float()
            old = self.smooth[place]
            new = torch.where(old < 0, value, torch.lerp(value, old, LOSS_MEMORY))
            self.smooth[place] = torch.where(good, new, old)

    def _steps_of_start(self) -> int:
        return 1 if self.settings.start == "first" else FIRST_STEPS

    def _move(self, gradient: torch.Tensor, where: torch.Tensor) -> None:
        """One step of Adam on the weights, and their sum back to T."""
        count = len(self.tasks)
        if self.settings.form == "softmax":
            self.adam.move(self.parameter, through_softmax(gradient, self.weight), where)
            self.parameter.sub_(self.parameter.mean())
            self.weight.copy_(count * torch.softmax(self.parameter, 0))
            return
        self.adam.move(self.parameter, gradient, where)
        if self.settings.form == "clamped":
            self.parameter.clamp_min_(SMALLEST_WEIGHT)
        moved = self.parameter * count / self.parameter.sum()
        self.parameter.copy_(torch.where(where.any(), moved, self.parameter))
        self.weight.copy_(self.parameter)


class DBMTL(_LooksAtGradients):
    """Logarithms of the losses, and gradients brought to the size of the largest.

    Task i counts ``max_j |g_j| / (|g_i| L_i)``, scaled to a sum of T, where ``g`` is the gradient of
    ``log L`` on the shared layer, smoothed over steps. The authors scale the shared part alone and leave the
    heads; one weight for a task scales both, which Adam undoes for the heads.

    References
    ----------
    .. [1] Lin et al., Dual-balancing for multi-task learning, 2023, Eqs. 2 to 4.
    """

    size: torch.Tensor
    level: torch.Tensor
    MEMORY = 0.9

    def __init__(self, tasks: Sequence[str], settings: BalanceSettings | None = None) -> None:
        super().__init__(tasks, settings)
        self.register_buffer("size", torch.full((len(tasks),), UNKNOWN))
        self.register_buffer("level", torch.full((len(tasks),), UNKNOWN))

    def _learn(self, shared: Sequence[torch.Tensor]) -> None:
        if len(self._values) < 2 or not self.due():
            return
        for name, gradient in self._complete(shared).items():
            place, value = self.index(name), self._values[name].clamp_min(SMALLEST_LOSS)
            norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradient]))
            self.norm[place] = self.weight[place] * norm
            for store, new in ((self.size, norm / value), (self.level, value)):
                old = store[place]
                mixed = torch.where(old < 0, new, torch.lerp(new, old, self.MEMORY))
                store[place] = torch.where(torch.isfinite(new), mixed, old)
        known = self.size > 0
        count = torch.where(known, 1.0 / (self.size * self.level).clamp_min(_TINY), 0.0)
        weight = torch.where(known, count * known.sum() / count.sum().clamp_min(_TINY), 1.0)
        self.weight.copy_(weight.clamp(1e-3, len(self.tasks)))
