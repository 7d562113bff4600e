"""A program that trains on some CPU processes: python devices_child.py DEVICES OUT [NAME ...]."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import tiny_method
import torch

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.events import Failed, Stepped
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.parallel import together
from napari_mtssl.engine.peers import Alone
from napari_mtssl.engine.source import FixedSource
from napari_mtssl.engine.train import train
from napari_mtssl.methods.hydramix import HydraMix, PatchBank

EXACT = {"precision": "float32"}  # half precision rounds otherwise in halves of a batch
OPTIONS = TrainOptions(validate_every=100, checkpoint_every=100, report_seconds=0, pseudo_seconds=0)


def hydramix():
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 255, (20, 48, 48, 3), dtype=np.uint8)
    bank = PatchBank.from_arrays(patches, np.arange(20) % 3, np.full((20, 2), 24.0), patches[::-1])
    settings = {"depth": 10, "widen": 1, "batch_size": 5, "steps": 10, "patch": 48, **EXACT}
    torch.manual_seed(1)
    method = HydraMix(
        HydraMix.configure("robust", **settings), {"cell": ("background", "a", "b")}, torch.device("cpu")
    )
    return method, bank


def tiny():
    return tiny_method.make_method(steps=10, batch_size=7), tiny_method.make_samples()


def tissue(balance):
    """Blocks and paint, weighed by their gradients."""
    from napari_mtssl.methods.superres import SuperRes
    from napari_mtssl.methods.superres.bank import BlockBank, Field

    rng = np.random.default_rng(0)
    ids = np.arange(1, 17, dtype=np.int32).reshape(4, 4).repeat(16, 0).repeat(16, 1)
    fields = [
        Field(
            n,
            0,
            0,
            torch.from_numpy(rng.integers(0, 255, (3, 64, 64), dtype=np.uint8)),
            torch.from_numpy(np.where(ids > 0, ids + 16 * n, 0)),
            torch.from_numpy(rng.integers(-1, 2, (64, 64), dtype=np.int16)),
        )
        for n in range(3)
    ]
    eta = np.array([[0.9, 0.1], [0.3, 0.7]], np.float32)
    bank = BlockBank(fields, rng.integers(0, 2, 48), eta, np.full((2, 2), 0.1, np.float32), "cpu", 1)
    settings = {"widths": "8-12-16", "crop": 64, "batch_size": 4, "steps": 10, "warmup": 1, **EXACT}
    config = SuperRes.configure("robust", **settings, balance=balance, balance_start="first")
    classes = {"block": ("few", "many"), "mask": ("background", "gland")}
    return SuperRes(config, classes, torch.device("cpu")), bank


def gradnorm():
    return tissue("gradnorm")


def dbmtl():
    return tissue("dbmtl")


def lungs(preset="robust", **settings):
    """Masks of three images and classes of six, with dropout; encoder and decoder are called one by one."""
    from napari_mtssl.methods.multimix import FieldBank, MultiMix

    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (8, 32, 32)).astype(np.float32)
    inside = (images > 0.5).astype(np.float32)
    masks = {at: np.stack([1 - inside[at], inside[at]]) for at in range(3)}
    classes = np.array([0, 1, 0, 1, 0, 1, -1, -1])
    bank = FieldBank.from_arrays(images, masks, {"diagnosis": classes})
    # three masks make two shares of different length, one image without a mask is not divided
    sizes = {"size": 32, "batch_size": 3, "class_batch": 2, "steps": 10, "learning_rate": 1e-4}
    config = MultiMix.configure(preset, **(EXACT | sizes | settings))
    vocabulary = {"mask": ("background", "disc"), "diagnosis": ("dark", "bright")}
    return MultiMix(config, vocabulary, torch.device("cpu")), bank


def multimix():
    return lungs(unlabelled_masks=1)


def paper_multimix():
    return lungs("paper")


def balanced_multimix():
    return lungs(variant="umtl-s", balance="gradnorm", balance_start="first", class_batch=1)


def specimens(preset="robust", **settings):
    """Masks of four images, two heads of six, dropout, guesses of a teacher, and pooling in the mask."""
    from napari_mtssl.methods.joint_unet import ImageSet, JointUNetMethod

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    masks = np.full((8, 64, 64), 255, np.uint8)
    masks[:4] = images[:4, ..., 1] > 127
    labels = {
        "pattern": np.array([0, 1, 2, 0, 1, 2, -1, -1]),
        "intensity": np.array([0, 1, 0, 1, 0, 1, -1, -1]),
    }
    sizes = {"size": 64, "base": 4, "batch_size": 5, "steps": 10, "warmup": 1, "learning_rate": 3e-5}
    config = JointUNetMethod.configure(preset, **(EXACT | sizes | settings))
    names = {
        "mask": ("background", "cell"),
        "pattern": ("one", "two", "three"),
        "intensity": ("weak", "strong"),
    }
    method = JointUNetMethod(config, names, torch.device("cpu"))
    return method, ImageSet.from_arrays(images, masks, labels)


def paper_specimens():
    return specimens("paper")


def balanced_specimens():
    return specimens(balance="gradnorm", balance_start="first", encoder="residual")


MAKERS = (
    *(tiny, hydramix, gradnorm, dbmtl, multimix, paper_multimix, balanced_multimix),
    *(specimens, paper_specimens, balanced_specimens),
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    devices, out = int(sys.argv[1]), Path(sys.argv[2])
    peers = together(devices, torch.device("cpu")) if devices > 1 else Alone()
    said = {}
    for make in [maker for maker in MAKERS if maker.__name__ in sys.argv[3:] or not sys.argv[3:]]:
        method, samples = make()
        with tempfile.TemporaryDirectory() as folder:
            events = list(
                train(
                    method,
                    FixedSource(samples),
                    run_dir=Path(folder),
                    control=Control(),
                    options=OPTIONS,
                    peers=peers,
                )
            )
        assert not isinstance(events[-1], Failed), events[-1]
        losses = {event.step: event.total for event in events if isinstance(event, Stepped)}
        if method.balancer is not None:
            assert method.balancer.steps == 10
            assert float(method.balancer.weight.std()) > 0
        weights = {name: float(value.double().sum()) for name, value in method.state().items()}
        said[make.__name__] = {"losses": losses, "weights": weights}
    out.with_name(f"{out.stem}{peers.rank}.json").write_text(json.dumps(said))
