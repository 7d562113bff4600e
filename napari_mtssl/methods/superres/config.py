"""Settings of label super-resolution and its two presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from napari_mtssl.methods.config import (
    LARGEST_BATCH,
    Blur,
    Brightness,
    Contrast,
    FinalRate,
    NetworkConfig,
    Precision,
    Stain,
    Weight,
)


class SuperResConfig(NetworkConfig):
    """Everything label super-resolution can be told. The defaults are the paper; presets set the rest."""

    # Network
    widths: str = Field(
        "32-64-128-256",
        title="Widths",
        description="Channels at each resolution of the U-Net, finest first; each is half the one before.",
    )
    stem: Literal[1, 2] = Field(
        1, title="Stem", description="With 2 the network works at half resolution, four times as fast."
    )
    downsample: int = Field(
        0,
        ge=0,
        le=64,
        title="Downsample",
        description="Level-0 pixels to a pixel of the network; 0: so that blocks are 64 to 128 pixels wide.",
    )
    crop: int = Field(
        256, ge=32, le=1024, title="Crop", description="Side of what the network sees in training, pixels."
    )

    renew: int = Field(
        5,
        ge=0,
        le=1_000_000,
        title="Renew",
        description="With more labelled fields than fit into memory, one is read anew every so many steps.",
    )

    # Losses
    loss: Literal["intra", "inter", "intra+inter"] = Field(
        "intra+inter",
        title="Statistics",
        description="Match each block on its own, blocks of a class together, or both kinds of variance.",
    )
    divergence: Literal["overlap", "kl", "w2"] = Field(
        "kl", title="Divergence", description="How counts and statistics are compared."
    )
    log_term: Literal["none", "pixel", "paper"] = Field(
        "none", title="Log term", description="'pixel' makes each pixel decide; 'paper' is the formula's."
    )
    deadzone: bool = Field(
        False, title="Dead zone", description="Counts within one spread of the mean cost nothing."
    )
    statistics_weight: Weight = Field(
        1.0, title="Weight of statistics", description="Of counts in blocks, in the total loss."
    )
    exact_weight: Weight = Field(
        1.0, title="Weight of exact paint", description="Of painted pixels, in the total loss."
    )
    blocks_weight: Weight = Field(
        0.0, title="Blocks as pixels", description="Weight of block labels taken for those of pixels."
    )

    # Groups of blocks
    sampler: Literal["groups", "fields"] = Field(
        "groups",
        title="Batches",
        description="Whole groups of one coarse class, or places at random with all blocks there.",
    )
    group: int = Field(
        15, ge=2, le=LARGEST_BATCH, title="Group", description="Blocks of one coarse class in a batch."
    )
    least_group: int = Field(
        5,
        ge=2,
        le=LARGEST_BATCH,
        title="Least group",
        description="Blocks of smaller groups are matched one by one.",
    )
    unbiased: bool = Field(
        False, title="Unbiased variance", description="Of the blocks of a group: divide by n - 1."
    )
    memory: int = Field(
        0, ge=0, le=1000, title="Memory", description="Earlier blocks of each class that count in a group."
    )

    # Guesses
    guess_weight: Weight = Field(
        0.0,
        title="Weight of guesses",
        description="Of the teacher's pixels, shifted in each block until their counts fit its class.",
    )
    guess_from: float = Field(0.15, ge=0, lt=1, title="Guesses from", description="Share of the run.")
    guess_reach: float = Field(
        1.73,
        ge=0,
        le=10,
        title="Reach of guesses",
        description="Spreads around the mean within which the teacher's own counts are left alone.",
    )
    guess_margin: float = Field(
        0.0, ge=0, lt=1, title="Margin", description="Guesses less sure than this are not learnt."
    )
    guess_free: float = Field(
        1.0,
        ge=0,
        le=1,
        title="Free guesses",
        description="Outside labelled blocks, guesses at least this sure are learnt; 1: none.",
    )
    guess_hard: bool = Field(
        True, title="Hard guesses", description="Learn the most probable class, or its probabilities."
    )
    smooth_weight: Weight = Field(
        0.0, title="Smoothness", description="Of outlines, except along edges of the image."
    )
    smooth_edge: float = Field(0.08, gt=0, le=1, title="Edge", description="Grey difference that is one.")

    # Views and optimiser
    stain: Stain = 0.0
    contrast: Contrast = 0.0
    brightness: Brightness = 0.0
    blur: Blur = 0.0
    views: Literal[1, 2, 4, 8] = Field(
        1, title="Views", description="Mirrored and turned views that a prediction is the mean of."
    )
    optimiser_name: Literal["rmsprop", "adamw"] = Field(
        "rmsprop", title="Optimiser", description="The paper's RMSprop, or AdamW."
    )
    final_rate: FinalRate = 1.0
    precision: Precision = "float32"

    @field_validator("widths")
    @classmethod
    def _widths(cls, text: str) -> str:
        parts = text.split("-")
        if not 2 <= len(parts) <= 7 or not all(p.isdigit() and 2 <= int(p) <= 1024 for p in parts):
            raise ValueError("Write two to seven numbers of channels such as 16-32-64.")
        return text


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # What the paper says; where it is silent, what its sources do.
    "paper": {"steps": 3000, "batch_size": 30, "learning_rate": 1e-3},
    # What measured best on real images: see docs/tissue.md.
    "robust": {
        "steps": 1500,
        "batch_size": 4,
        "learning_rate": 2e-3,
        "widths": "16-32-64-96-128",
        "stem": 2,
        "crop": 256,
        "loss": "intra",
        "statistics_weight": 0.2,
        "sampler": "fields",
        "memory": 30,
        "unbiased": True,
        "guess_weight": 5.0,
        "guess_from": 0.1,
        "stain": 0.15,
        "contrast": 0.15,
        "brightness": 0.08,
        "views": 4,
        "optimiser_name": "adamw",
        "weight_decay": 0.02,
        "warmup": 20,
        "final_rate": 0.01,
        "ema": 0.98,
        "precision": "auto",
    },
}
