"""Settings of the Joint U-Net and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from napari_mtssl.methods.config import (
    AdamOrAdamW,
    Blur,
    FinalRate,
    NetworkConfig,
    Precision,
    Ramp,
    Rotation,
    Shift,
    Stretch,
    Weight,
    Zoom,
)


class JointUNetConfig(NetworkConfig):
    """Everything the Joint U-Net can be told."""

    only: str = Field(
        "",
        title="Only this task",
        description="Learn 'mask' or one kind of image class alone; empty: all of the study's.",
    )

    # Network
    encoder: Literal["residual", "resnet34", "double"] = Field(
        "residual",
        title="Encoder",
        description="The report's residual blocks in a U-Net, the true ResNet-34, or the original U-Net.",
    )
    base: int = Field(
        64, ge=4, le=128, multiple_of=4, title="Width", description="Channels at the finest resolution."
    )
    size: int = Field(
        384,
        ge=64,
        le=1024,
        multiple_of=32,
        title="Size",
        description="Side, in pixels, that images are resized to.",
    )
    pooling: Literal["last", "levels", "mask", "light"] = Field(
        "last",
        title="Classifiers see",
        description="Means of the coarsest features; mean and spread at every resolution; these, and once "
        "more inside the network's own mask; or this, but for 'Kinds of brightness' the light inside it "
        "and what the other classifiers say.",
    )
    dropout: float = Field(0.2, ge=0, lt=1, title="Dropout", description="Before the classifiers.")
    weights: str = Field(
        "",
        title="Encoder weights",
        description="Your own: a .safetensors file, or timm:NAME@FILE if timm is installed; empty: random.",
    )

    # Optimiser
    optimiser_name: AdamOrAdamW = "adam"
    final_rate: FinalRate = 0.01
    precision: Precision = "float32"

    # Losses
    mask_loss: Literal["bce", "dice", "both"] = Field(
        "bce", title="Loss of the mask", description="Cross-entropy of pixels, Dice, or their sum."
    )
    mask_weight: Weight = Field(1.0, title="Weight of the mask", description="Unless balanced.")
    class_weight: Weight = Field(
        1.0, title="Weight of classes", description="Of each kind of image class, unless balanced."
    )

    # Views
    turns: bool = Field(
        False, title="Turns", description="Mirror images and turn them by quarters; costs no sharpness."
    )
    warped: float = Field(
        1.0,
        ge=0,
        le=1,
        title="Warped",
        description="Share of images that are also rotated, zoomed, stretched and shifted.",
    )
    rotation: Rotation = 0.0
    scale: Zoom = 0.0
    stretch: Stretch = 0.0
    shift: Shift = 0.0
    stain: float = Field(
        0.0,
        ge=0,
        le=0.8,
        title="Stain",
        description="Change of each stain's density, share; only of images in colour on white.",
    )
    brightness: float = Field(
        0.0,
        ge=0,
        le=0.3,
        title="Brightness",
        description="Strongest factor, either way; small, since intensity may be what is asked for.",
    )
    tint: float = Field(
        0.0,
        ge=0,
        le=2,
        title="Tint",
        description="Logarithm of the strongest change of a colour against the others, at equal brightness; "
        "only of images on black.",
    )
    gain: float = Field(
        0.0,
        ge=0,
        le=2,
        title="Gain",
        description="Logarithm of the strongest change of brightness of every second image on black; such an "
        "image teaches all but the kinds of 'Kinds of brightness'.",
    )
    brightness_kinds: str = Field(
        "intensity",
        title="Kinds of brightness",
        description="Kinds of image classes, with commas between, that are about how bright an image is.",
    )
    blur: Blur = 0.0
    noise: float = Field(
        0.0, ge=0, le=0.2, title="Noise", description="Strongest noise, share of the brightest value."
    )
    tta: Literal[1, 4, 8] = Field(
        1, title="Views to predict", description="Mirrored and turned views that a prediction averages."
    )

    # Images without labels, or with some of them
    unlabelled_ratio: float = Field(
        0.0, ge=0, le=8, title="Unlabelled ratio", description="Images to guess for each labelled one."
    )
    consistency: Weight = Field(
        1.0, title="Weight of guesses", description="Against labels, of the same task."
    )
    class_consistency: Weight = Field(
        1.0,
        title="Weight of guessed classes",
        description="Against guessed masks; 0: only masks are guessed for images without labels.",
    )
    threshold: float = Field(
        0.95, ge=0.5, lt=1, title="Threshold", description="Guessed classes less sure than this do not count."
    )
    mask_threshold: float = Field(
        0.8, ge=0.5, lt=1, title="Threshold of pixels", description="The same for pixels of guessed masks."
    )
    ramp: Ramp = 0.3
    pasted: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Pasted",
        description="Share of images to guess for that get a box of another, with its guessed mask (CutMix); "
        "the others teach classes.",
    )
    strong: float = Field(
        1.0,
        ge=0,
        le=3,
        title="Strength of views",
        description="Extra noise, brightness and holes of views that guesses are learnt from.",
    )


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # What the report says: Adam at 1e-4, batches of 8, 384 pixels, 64 channels, GradNorm at 0.6.
    "paper": {
        "steps": 10_000,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "final_rate": 1.0,
        "balance": "gradnorm",
        "balance_alpha": 0.6,
        "balance_rate": 0.025,
        "balance_form": "clamped",
        "balance_start": "first",
    },
    "robust": {
        "steps": 600,
        "batch_size": 8,
        "learning_rate": 2e-3,
        # sees the finest textures, which a ResNet's stem halves twice before it looks
        "encoder": "residual",
        "base": 8,
        "size": 192,
        "optimiser_name": "adamw",
        "weight_decay": 0.02,
        "warmup": 30,
        "pooling": "light",
        "turns": True,
        "mask_loss": "both",
        "warped": 0.25,
        "rotation": 15.0,
        "scale": 0.15,
        "stretch": 0.05,
        "shift": 0.05,
        "stain": 0.25,
        "brightness": 0.04,
        "tint": 0.8,
        "gain": 0.8,
        "noise": 0.03,
        "tta": 8,
        "precision": "auto",
        "ema": 0.99,
        "unlabelled_ratio": 1.0,
        # a few labelled patients make a network sure of the wrong class of others; of masks they do not
        "class_consistency": 0.0,
        "pasted": 0.5,
    },
}
