"""Settings of MultiMix, its rows and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from napari_mtssl.methods.config import (
    LARGEST_BATCH,
    AdamOrAdamW,
    Alignment,
    NetworkConfig,
    Precision,
    Ramp,
    Rotation,
    Shift,
    Stretch,
    Weight,
    Zoom,
)

StreamBatch = Annotated[int, Field(ge=0, le=LARGEST_BATCH)]
Variant = Literal["multimix", "u-net", "enc", "enc-ssl", "umtl", "umtl-s", "umtl-ssl", "umtl-ssl-s"]


@dataclass(frozen=True)
class Parts:
    """What a row of the paper's table is made of.

    Attributes
    ----------
    classes, masks : bool
        Tasks.
    guesses : bool
        Pseudo-labels for images without a class.
    bridge : bool
        The saliency bridge.
    consistency : bool
        The loss on images without a mask.
    """

    classes: bool = True
    masks: bool = True
    guesses: bool = False
    bridge: bool = False
    consistency: bool = False


PARTS: Mapping[str, Parts] = {
    "u-net": Parts(classes=False),
    "enc": Parts(masks=False),
    "enc-ssl": Parts(masks=False, guesses=True),
    "umtl": Parts(),
    "umtl-s": Parts(bridge=True),
    "umtl-ssl": Parts(guesses=True),
    "umtl-ssl-s": Parts(guesses=True, bridge=True),
    "multimix": Parts(guesses=True, bridge=True, consistency=True),
}


class MultiMixConfig(NetworkConfig):
    """Everything MultiMix can be told. The defaults are the published method; presets set the rest."""

    variant: Variant = Field(
        "multimix", title="Variant", description="The paper's rows, from single tasks to the whole method."
    )

    # Network
    size: int = Field(
        256, ge=32, le=1024, multiple_of=16, title="Size", description="Side that images are resized to."
    )
    colour: Literal["grey", "rgb"] = Field("grey", title="Colour", description="What the network sees.")
    dropout: float = Field(
        0.25, ge=0, lt=1, title="Dropout", description="Share of features left out in each step."
    )
    bridge: Literal["saliency", "zeros", "shuffled"] = Field(
        "saliency",
        title="Bridge",
        description="What the decoder is shown: the saliency, or as controls nothing or another image's.",
    )
    saliency_norm: Literal["none", "minmax"] = Field(
        "none", title="Saliency range", description="As it comes (about a thousandth), or from 0 to 1."
    )
    normalisation: Literal["dataset", "image", "equalised"] = Field(
        "dataset",
        title="Grey values",
        description="Mean and deviation of all images, or of each; or ranks, which no curve changes.",
    )

    # Optimiser
    optimiser_name: AdamOrAdamW = "adam"
    schedule: Literal["steps", "cosine"] = Field(
        "steps", title="Schedule", description="A tenth of the rate after each third of the run, or a cosine."
    )
    precision: Precision = "float32"

    # Batches
    class_batch: StreamBatch = Field(
        0, title="Class batch", description="Images with a class in each step; 0: as Batch."
    )
    unlabelled_masks: StreamBatch = Field(
        0, title="Batch without mask", description="Images without a mask in each step; 0: as Batch."
    )
    unlabelled_classes: StreamBatch = Field(
        0, title="Batch without class", description="Images without a class; 0: as the class batch."
    )
    balanced: bool = Field(False, title="Balanced classes", description="Draw all classes equally often.")

    # Views
    labelled_views: Literal["weak", "affine", "strong"] = Field(
        "weak",
        title="Views of images with a mask",
        description="Flip and crop, mild affine maps, or whatever other machines may do.",
    )
    class_views: Literal["weak", "affine", "strong"] = Field(
        "weak",
        title="Views of images with a class",
        description="As for masks; what a diagnosis hangs on may not survive strong views.",
    )
    strong_views: Literal["randaugment", "radiograph"] = Field(
        "randaugment", title="Strong views", description="RandAugment, or what other X-ray machines may do."
    )
    guess_views: Literal["weak", "affine", "strong"] = Field(
        "strong",
        title="Views for guessed classes",
        description="That the network learns a guessed class from. Strong views of radiographs hold blobs "
        "that look like the findings themselves.",
    )
    strong_share: float = Field(
        1.0,
        ge=0,
        le=1,
        title="Share of strong views",
        description="Of labelled images with strong views; the others get mild affine maps.",
    )
    calm: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Calm",
        description="Share of the run, at its end, over which strong views of labelled images fade out.",
    )
    flips: bool = Field(
        True,
        title="Mirror images",
        description="Half of them, in training. Off where left and right are different classes.",
    )
    rotation: Rotation = 12.0
    scale: Zoom = 0.25
    stretch: Stretch = 0.12
    shift: Shift = 0.1
    elastic: float = Field(0.03, ge=0, le=0.2, title="Elastic", description="Share of the side.")
    looks: float = Field(1.0, ge=0, le=2, title="Looks", description="Strength of changes of grey values.")
    clutter: float = Field(
        0.25, ge=0, le=1, title="Clutter", description="Chance of letters, cables, boxes, borders."
    )
    air: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Air",
        description="Chance of dark ovals, as of gas in the stomach, in images with a mask.",
    )
    opacities: float = Field(0.5, ge=0, le=1, title="Opacities", description="Soft blobs, as of sick lungs.")
    inversion: float = Field(0.0, ge=0, le=0.5, title="Inversion", description="Chance of a negative.")

    # Guesses and losses
    targets: Literal["hard", "soft"] = Field(
        "hard", title="Trust in guesses", description="By the threshold, or by recent confidence."
    )
    threshold: float = Field(0.7, ge=0, le=1, title="Threshold", description="Of a guessed class.")
    alignment: Alignment = 0.0
    guess_weight: Weight = Field(0.25, title="Weight of guessed classes", description="Lambda.")
    mask_weight: Weight = Field(5.0, title="Weight of masks", description="Alpha.")
    pixel_weight: Weight = Field(
        0.0, title="Weight of pixels", description="Cross-entropy beside Dice, times the masks' weight."
    )
    seg_consistency: Literal["none", "paper", "area", "teacher"] = Field(
        "paper",
        title="Consistency of masks",
        description="For images without a mask: none, the mean mask, the area, or a teacher's mask.",
    )
    consistency_weight: Weight = Field(0.01, title="Weight of consistency", description="Beta.")
    confidence: float = Field(
        0.5, ge=0, le=1, title="Confidence", description="Pixels the teacher is less sure of are left out."
    )
    ramp: Ramp = 0.0

    # Samples
    pool: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        title="Pool",
        description="Images without any label that are read at most; the more, the later the first step.",
    )

    # Prediction
    largest: int = Field(
        0, ge=0, le=10_000, title="Largest parts", description="Parts of a mask class that are kept; 0: all."
    )
    smooth: float = Field(
        0.0, ge=0, le=0.05, title="Smooth", description="Blur of mask probabilities, share of the side."
    )
    mirror: bool = Field(
        False, title="Mirror", description="Average with the mirror image's, if these are learnt from."
    )

    @property
    def parts(self) -> Parts:
        """What the variant is made of."""
        return PARTS[self.variant]

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return 3 if self.colour == "rgb" else 1


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # What the paper and its released code say: 256 pixels, Adam at 1e-4 that falls twice to a tenth.
    "paper": {"steps": 12_000, "batch_size": 10, "learning_rate": 1e-4},
    "robust": {
        "steps": 600,
        "batch_size": 8,
        "learning_rate": 4e-3,
        "size": 128,
        "dropout": 0.0,
        "saliency_norm": "minmax",
        "normalisation": "image",
        "optimiser_name": "adamw",
        "weight_decay": 0.02,
        "precision": "auto",
        "schedule": "cosine",
        "warmup": 20,
        "class_batch": 8,
        "unlabelled_masks": 4,
        "unlabelled_classes": 8,
        "balanced": True,
        "labelled_views": "strong",
        "class_views": "affine",
        "guess_views": "affine",
        "strong_share": 0.5,
        "calm": 0.5,
        "strong_views": "radiograph",
        "targets": "soft",
        "alignment": 0.5,
        "ema": 0.95,
        "guess_weight": 0.5,
        "air": 0.5,
        "mask_weight": 16.0,
        "pixel_weight": 1.0,
        "seg_consistency": "teacher",
        "consistency_weight": 2.0,
        "confidence": 0.8,
        "ramp": 0.3,
        "pool": 150,
        "largest": 2,
        "mirror": True,
    },
}
