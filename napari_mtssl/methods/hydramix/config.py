"""Settings of HydraMix-Net and its two presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from napari_mtssl.methods.config import (
    AdamOrAdamW,
    Alignment,
    Blur,
    Brightness,
    Contrast,
    FinalRate,
    NetworkConfig,
    Precision,
    Ramp,
    Stain,
    Stretch,
    Weight,
    WeightDecay,
    Zoom,
)


class HydraMixConfig(NetworkConfig):
    """Everything HydraMix-Net can be told. The defaults are the published method; presets set the rest."""

    variant: Literal["hydramix", "no-sce", "cnn"] = Field(
        "hydramix",
        title="Variant",
        description="The paper's rows: the whole method, plain cross-entropy instead of the symmetric one, "
        "or a supervised network with flips and rotations that sees no unlabelled place.",
    )

    # Network
    depth: int = Field(28, ge=10, le=40, title="Depth", description="6 n + 4 layers of the wide ResNet.")
    widen: int = Field(2, ge=1, le=10, title="Width", description="Times 16, 32 and 64 channels.")
    strides: Literal["1-2-2", "2-1-2", "2-2-1"] = Field(
        "1-2-2", title="Strides", description="Of the three groups; a stride of 2 early on is cheaper."
    )
    padding: Literal["zeros", "valid"] = Field(
        "zeros", title="Padding", description="With 'valid', whole images give exactly what patches give."
    )
    window: int = Field(
        32,
        ge=24,
        le=64,
        multiple_of=4,
        title="Window",
        description="Pixels around a place that the network sees.",
    )
    patch: int = Field(
        41,
        ge=24,
        le=128,
        title="Patch",
        description="Pixels kept around each place, from which windows are cropped.",
    )
    regression_head: Literal["flatten", "squeeze"] = Field(
        "flatten", title="Centroid heads", description="As published, or with 16 channels first."
    )
    bn_momentum: float = Field(
        0.02, gt=0, le=1, title="BatchNorm momentum", description="Of the means over batches; small is slow."
    )

    # Optimiser
    optimiser_name: AdamOrAdamW = "adam"
    weight_decay: WeightDecay = 1e-4
    final_rate: FinalRate = 0.01

    precision: Precision = "float32"

    # Views
    views: int = Field(
        2, ge=1, le=8, title="Views", description="Augmentations K over which guesses are averaged."
    )
    strong_views: int = Field(
        0,
        ge=0,
        le=4,
        title="Strong views",
        description="Extra, stronger augmentations to learn from; 0: the K views.",
    )
    unlabelled_ratio: float = Field(
        1.0, gt=0, le=16, title="Unlabelled ratio", description="Unlabelled for each labelled sample."
    )
    balanced: bool = Field(
        False,
        title="Balanced classes",
        description="Draw one third background and the other classes equally often.",
    )
    jitter: float = Field(
        4.5, ge=0, le=32, title="Jitter", description="Shift of the crop around a cell, pixels."
    )
    background_jitter: float = Field(
        4.5, ge=0, le=32, title="Background jitter", description="Shift around a background place, pixels."
    )
    scale: Zoom = 0.0
    stretch: Stretch = 0.0
    stain: Stain = 0.0
    contrast: Contrast = 0.0
    brightness: Brightness = 0.0
    blur: Blur = 0.0
    labelled_colour: float = Field(
        1.0,
        ge=0,
        le=1,
        title="Colours of labelled patches",
        description="How much stain, contrast, brightness and sharpness of clicked patches change, as a "
        "share of what is done to guesses: strong changes find more cells and cost their classes.",
    )

    # Types of cells
    type_weight: Weight = Field(
        0.0,
        title="Weight of cell types",
        description="Of a head of its own that only tells cells apart, learnt from clicked cells in nearly "
        "their own colours; 0, or fewer than three classes of cells: none.",
    )
    type_colour: float = Field(
        0.2,
        ge=0,
        le=1,
        title="Colours for cell types",
        description="How much stain, contrast, brightness and sharpness change for that head, as a share of "
        "what is done to guesses.",
    )

    # Guesses
    temperature: float = Field(
        0.5, gt=0, le=1, title="Temperature", description="Sharpening of guesses; 1: none."
    )
    targets: Literal["all", "soft", "hard"] = Field(
        "all",
        title="Trust",
        description="Every guess alike (MixMatch), by confidence (SoftMatch), or above the "
        "threshold only (FixMatch).",
    )
    threshold: float = Field(0.95, gt=0, lt=1, title="Threshold", description="For 'hard'.")
    alignment: Alignment = 0.0
    centroid_guess: Literal["original", "average"] = Field(
        "original",
        title="Centroid guess",
        description="On the original, or the mean over the views pulled back.",
    )

    # Loss
    mixup: float = Field(
        0.75, ge=0, le=4, title="Mixup", description="Alpha of the Beta distribution; 0: none."
    )
    delta_labelled: Weight = Field(
        1.0, title="Trust in labels (labelled)", description="Weight of the usual cross-entropy."
    )
    rho_labelled: Weight = Field(
        0.1, title="Trust in predictions (labelled)", description="Weight of the reverse cross-entropy."
    )
    delta_unlabelled: Weight = Field(
        0.1, title="Trust in labels (unlabelled)", description="The same for guesses."
    )
    rho_unlabelled: Weight = Field(
        1.0, title="Trust in predictions (unlabelled)", description="The same for guesses."
    )
    mu: float = Field(0.75, ge=0, le=1, title="Weight of classes", description="Against centroids.")
    regression_gain: Weight = Field(
        10.0, title="Centroid gain", description="Centroids are in units of the window."
    )
    regression_mask: Literal["masked", "paper_product"] = Field(
        "masked", title="Centroid mask", description="Leave background out, or the paper's product."
    )
    regression_loss: Literal["squared", "huber"] = Field(
        "squared", title="Centroid loss", description="Squared error, or absolute beyond one pixel."
    )
    centroid_reach: float = Field(
        64.0,
        gt=0,
        le=1000,
        title="Centroid reach",
        description="Farther from the window's middle none is learnt, pixels.",
    )
    mixed_centroids: bool = Field(
        True,
        title="Mixed centroids",
        description="Trust centroids of mixed images as much as others, as published.",
    )
    unlabelled_weight: Weight = Field(
        1.0, title="Unlabelled weight", description="What guesses count against labels."
    )
    ramp: Ramp = 0.0

    # Samples
    background_from_far: bool = Field(
        False,
        title="Background far from clicks",
        description="In images with clicks, take pale places far from every click as background.",
    )
    far: float = Field(24.0, ge=1, le=10_000, title="Far", description="Pixels from every click.")
    far_places: int = Field(40, ge=1, le=100_000, title="Far places", description="At most, for each image.")
    pool: int = Field(
        8000, ge=1, le=1_000_000, title="Pool", description="Unlabelled places in all images together."
    )
    nuclear_share: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Nuclear share",
        description="Of the pool on dark blue spots; the rest anywhere.",
    )

    renew: int = Field(
        20,
        ge=0,
        le=1_000_000,
        title="Renew",
        description="Of slides, a sixteenth of the pool is read anew every so many steps; 0: never.",
    )

    # Prediction
    turns: Literal[1, 2, 4] = Field(
        1,
        title="Turns",
        description="Of the image by a half or by quarters, over which predictions are averaged; "
        "each costs the time of one.",
    )

    # Cells from maps
    vote_reach: float = Field(
        64.0,
        gt=0,
        le=1000,
        title="Reach of votes",
        description="Places that see their cell this far off count less, pixels.",
    )
    vote_sigma: float = Field(2.0, gt=0, le=20, title="Smoothing of votes", description="Pixels.")
    cell_radius: float = Field(
        6.0, ge=1, le=60, title="Cell radius", description="No two cells closer than this, pixels."
    )
    min_votes: float = Field(
        0.35, ge=0, le=1000, title="Least votes", description="Of a cell; 1: all that one place can give."
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # What the paper says; where it is silent, what its sources do.
    "paper": {"steps": 10_000, "batch_size": 32, "learning_rate": 1e-3},
    # What measured best on real images: see docs/experiments.md.
    "robust": {
        "steps": 1200,
        "batch_size": 48,
        "learning_rate": 2e-3,
        "depth": 10,
        "widen": 2,
        "strides": "2-2-1",
        "padding": "valid",
        "window": 40,
        "patch": 64,
        "optimiser_name": "adamw",
        "weight_decay": 0.02,
        "warmup": 20,
        "views": 1,
        "strong_views": 1,
        "unlabelled_ratio": 1.75,
        "balanced": True,
        "jitter": 5.5,
        "background_jitter": 4.0,
        "scale": 0.2,
        "stretch": 0.1,
        "stain": 0.3,
        "contrast": 0.25,
        "brightness": 0.12,
        "type_weight": 0.5,
        "targets": "soft",
        "alignment": 0.5,
        "ema": 0.99,
        "precision": "auto",
        "centroid_guess": "average",
        "mixup": 0.0,
        "delta_unlabelled": 0.5,
        "rho_unlabelled": 0.5,
        "regression_loss": "huber",
        "regression_gain": 8.0,
        "centroid_reach": 6.0,
        "mixed_centroids": False,
        "ramp": 0.1,
        "nuclear_share": 0.7,
        "turns": 4,
        "vote_reach": 3.0,
        "vote_sigma": 2.5,
        "cell_radius": 4.0,
        "min_votes": 2.7,
    },
}
