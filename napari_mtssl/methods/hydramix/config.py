"""Settings of HydraMix-Net and its two presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from napari_mtssl.methods.base import MethodConfig


class HydraMixConfig(MethodConfig):
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
    bn_momentum: float = Field(0.02, gt=0, le=1, title="BatchNorm momentum")

    # Optimiser
    optimiser_name: Literal["adam", "adamw"] = Field("adam", title="Optimiser")
    weight_decay: float = Field(1e-4, ge=0, title="Weight decay")
    warmup: int = Field(0, ge=0, title="Warm-up", description="Steps over which the learning rate rises.")
    final_rate: float = Field(
        0.01, gt=0, le=1, title="Final rate", description="Share of the learning rate at the end."
    )

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
    scale: float = Field(0.0, ge=0, le=0.7, title="Zoom", description="Logarithm of the strongest zoom.")
    stretch: float = Field(
        0.0, ge=0, le=0.5, title="Stretch", description="Logarithm of the strongest change of shape."
    )
    stain: float = Field(
        0.0, ge=0, le=0.8, title="Stain", description="Change of each stain's density, share."
    )
    contrast: float = Field(0.0, ge=0, le=0.9, title="Contrast")
    brightness: float = Field(0.0, ge=0, le=0.5, title="Brightness")
    blur: float = Field(0.0, ge=0, le=2, title="Blur", description="Strongest blur, pixels.")

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
    alignment: float = Field(
        0.0, ge=0, le=1, title="Alignment", description="Of guesses to equal classes; 0: none."
    )
    ema: float = Field(
        0.0, ge=0, lt=1, title="Teacher's memory", description="0: the network teaches itself."
    )
    centroid_guess: Literal["original", "average"] = Field(
        "original",
        title="Centroid guess",
        description="On the original, or the mean over the views pulled back.",
    )

    # Loss
    mixup: float = Field(
        0.75, ge=0, le=4, title="Mixup", description="Alpha of the Beta distribution; 0: none."
    )
    delta_labelled: float = Field(1.0, ge=0, title="Trust in labels (labelled)")
    rho_labelled: float = Field(0.1, ge=0, title="Trust in predictions (labelled)")
    delta_unlabelled: float = Field(0.1, ge=0, title="Trust in labels (unlabelled)")
    rho_unlabelled: float = Field(1.0, ge=0, title="Trust in predictions (unlabelled)")
    mu: float = Field(0.75, ge=0, le=1, title="Weight of classes", description="Against centroids.")
    regression_gain: float = Field(
        10.0, ge=0, title="Centroid gain", description="Centroids are in units of the window."
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
        title="Centroid reach",
        description="Farther from the window's middle none is learnt, pixels.",
    )
    mixed_centroids: bool = Field(
        True,
        title="Mixed centroids",
        description="Trust centroids of mixed images as much as others, as published.",
    )
    unlabelled_weight: float = Field(1.0, ge=0, title="Unlabelled weight")
    ramp: float = Field(
        0.0, ge=0, le=1, title="Ramp", description="Share of the run over which that weight rises."
    )

    # Samples
    background_from_far: bool = Field(
        False,
        title="Background far from clicks",
        description="In images with clicks, take pale places far from every click as background.",
    )
    far: float = Field(24.0, ge=1, title="Far", description="Pixels from every click.")
    far_places: int = Field(40, ge=1, title="Far places", description="At most, for each image.")
    pool: int = Field(8000, ge=1, title="Pool", description="Unlabelled places in all images together.")
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
        title="Reach of votes",
        description="Places that see their cell this far off count less, pixels.",
    )
    vote_sigma: float = Field(2.0, gt=0, le=20, title="Smoothing of votes", description="Pixels.")
    cell_radius: float = Field(
        6.0, ge=1, le=60, title="Cell radius", description="No two cells closer than this, pixels."
    )
    min_votes: float = Field(
        0.35, ge=0, title="Least votes", description="Of a cell; 1: all that one place can give."
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # What the paper says; where it is silent, what its sources do.
    "paper": {"steps": 10_000, "batch_size": 32, "learning_rate": 1e-3},
    # What measured best on real images: see docs/experiments.md.
    "robust": {
        "steps": 700,
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
        "targets": "soft",
        "alignment": 0.5,
        "ema": 0.99,
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
