"""Settings: what every method has, what most have, and what is said of a value that is not valid."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_STEPS = 10_000_000
LARGEST_BATCH = 4096  # more fits into no card's memory, and is a slip of the finger


class MethodError(ValueError):
    """The labels, images or settings do not allow training; the message says what to change."""


class MethodConfig(BaseModel):
    """Settings every method has: the one source of the dock's form, the command line and the checkpoint.

    Fields carry `title`, `description` and bounds; the form and ``--set key=value`` are made from them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    preset: str = Field("robust", description="Where the other settings came from.")
    steps: int = Field(
        1500, ge=1, le=MOST_STEPS, title="Steps", description="Optimiser updates in one training run."
    )
    batch_size: int = Field(
        32, ge=2, le=LARGEST_BATCH, title="Batch", description="Labelled samples in each step."
    )
    learning_rate: float = Field(
        1e-3, gt=0, le=1, title="Learning rate", description="Size of a step; too large a one diverges."
    )
    labels: int = Field(
        0,
        ge=0,
        le=10_000_000,
        title="Labels",
        description="Learn from only so many labels, drawn by the seed; 0: from all.",
    )
    seed: int = Field(0, ge=0, lt=2**63, title="Seed", description="One seed gives one result on the CPU.")
    balance: Literal["fixed", "equal", "gradnorm", "uncertainty", "famo", "dbmtl"] = Field(
        "fixed",
        title="Balance of tasks",
        description="What each task counts: the method's own weights, all alike, or a rule that learns it.",
    )
    balance_alpha: float = Field(
        0.6,
        ge=0,
        le=10,
        title="GradNorm's alpha",
        description="How strongly tasks are pulled back to a common rate of training.",
    )
    balance_rate: float = Field(
        0.01, gt=0, le=1, title="Rate of balancing", description="Learning rate of the tasks' weights."
    )
    balance_every: int = Field(
        1,
        ge=1,
        le=10_000,
        title="Balance every",
        description="Steps from one look at the tasks' gradients to the next.",
    )
    balance_start: Literal["mean", "first", "theory"] = Field(
        "mean",
        title="GradNorm's L(0)",
        description="Mean of the first 20 losses, the first loss, or that of a network that knows nothing.",
    )
    balance_form: Literal["softmax", "clamped", "raw"] = Field(
        "softmax",
        title="GradNorm's weights",
        description="Positive by construction, the paper's kept above 0.001, or the paper's to the letter.",
    )


# What settings of the same name mean in every method that has them.
AdamOrAdamW = Annotated[
    Literal["adam", "adamw"],
    Field(title="Optimiser", description="Adam, or AdamW: weight decay apart from the step."),
]
WeightDecay = Annotated[
    float, Field(ge=0, le=1, title="Weight decay", description="How strongly weights are pulled to 0.")
]
Warmup = Annotated[
    int, Field(ge=0, le=MOST_STEPS, title="Warm-up", description="Steps over which the learning rate rises.")
]
FinalRate = Annotated[
    float, Field(gt=0, le=1, title="Final rate", description="Share of the learning rate at the end.")
]
Precision = Annotated[
    Literal["float32", "auto"],
    Field(
        title="Precision",
        description="'auto': half precision (bfloat16) where the processor has it; losses stay exact.",
    ),
]
Memory = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        title="Teacher's memory",
        description="The teacher is the moving average of the networks so far; 0: there is none.",
    ),
]
Ramp = Annotated[
    float,
    Field(ge=0, le=1, title="Ramp", description="Share of the run over which guesses come to count."),
]
Weight = Annotated[float, Field(ge=0, le=1e6)]  # of a loss; the title says of which
Share = Annotated[float, Field(ge=0, le=1)]
Alignment = Annotated[
    float,
    Field(ge=0, le=1, title="Alignment", description="Of guessed classes to the classes' shares; 0: none."),
]
Zoom = Annotated[
    float, Field(ge=0, le=1, title="Zoom", description="Logarithm of the strongest zoom of a view.")
]
Stretch = Annotated[
    float, Field(ge=0, le=0.5, title="Stretch", description="Logarithm of the strongest change of shape.")
]
Rotation = Annotated[float, Field(ge=0, le=180, title="Rotation", description="Degrees, either way.")]
Shift = Annotated[float, Field(ge=0, le=0.5, title="Shift", description="Share of the side.")]
Stain = Annotated[
    float, Field(ge=0, le=0.8, title="Stain", description="Change of each stain's density, share.")
]
Contrast = Annotated[float, Field(ge=0, le=0.9, title="Contrast", description="Strongest change, share.")]
Brightness = Annotated[float, Field(ge=0, le=0.5, title="Brightness", description="Strongest change, share.")]
Blur = Annotated[float, Field(ge=0, le=2, title="Blur", description="Strongest blur, pixels.")]


class NetworkConfig(MethodConfig):
    """Settings of methods that train one network, perhaps with a teacher beside it."""

    weight_decay: WeightDecay = 0.0
    warmup: Warmup = 0
    ema: Memory = 0.0


def validation_sentence(error: ValueError, known: Mapping[str, Any]) -> str:
    """Say in one sentence what is not valid.

    Parameters
    ----------
    error : ValueError
        Pydantic's, or a validator's own.
    known : mapping
        The settings there are, by name.
    """
    details = getattr(error, "errors", None)
    if details is None:
        return str(error)
    parts = []
    for item in details():
        name = ".".join(str(piece) for piece in item["loc"]) or "settings"
        if item["type"] == "extra_forbidden":
            alike = difflib.get_close_matches(name, known, 1)
            reason = "no such setting" + (f"; is {alike[0]} meant?" if alike else "")
        else:
            reason = _reason(item)
        parts.append(f"{name}: {reason}")
    return f"Setting not valid: {'; '.join(parts).rstrip('.?')}{'?' if parts[-1].endswith('?') else '.'}"


def _reason(item: Mapping[str, Any]) -> str:
    """Say what is wrong with one value, and what it was."""
    found = item.get("ctx") or {}
    said = {
        "greater_than_equal": "must be at least {ge}",
        "greater_than": "must be more than {gt}",
        "less_than_equal": "must be at most {le}",
        "less_than": "must be less than {lt}",
        "multiple_of": "must be a multiple of {multiple_of}",
        "literal_error": "must be {expected}",
        "int_parsing": "must be a whole number",
        "int_from_float": "must be a whole number",
        "int_type": "must be a whole number",
        "float_parsing": "must be a number",
        "float_type": "must be a number",
        "finite_number": "must be a finite number",
        "bool_parsing": "must be true or false",
        "bool_type": "must be true or false",
    }.get(item["type"])
    if said is None:
        text = str(item["msg"]).removeprefix("Value error, ")
        return text[0].lower() + text[1:]
    bounds = {key: f"{value:g}" if isinstance(value, float) else value for key, value in found.items()}
    shown = repr(item["input"])
    return f"{said.format(**bounds)}, not {shown if len(shown) <= 40 else shown[:37] + '...'}"
