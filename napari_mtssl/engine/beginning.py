"""What a run begins with: weights of another one, if they fit, and its settings on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from napari_mtssl.engine import checkpoint as ckpt
from napari_mtssl.methods.base import Method, MethodError


def check_classes(saved: ckpt.Checkpoint, method: Method) -> None:
    """See that weights are of a method and of its classes.

    Raises
    ------
    MethodError
        If they are not.
    """
    theirs = ckpt.vocabulary(saved)
    if saved.meta["method"] != method.name or theirs != method.vocabulary:
        raise MethodError(
            f"The weights of '{saved.path.parent.name}' were trained as {saved.meta['method']} for "
            f"{_listed(theirs)}, not as {method.name} for {_listed(method.vocabulary)}; "
            "start a new run."
        )


def start_from(saved: ckpt.Checkpoint, method: Method) -> None:
    """Give a method the weights of another run.

    Raises
    ------
    MethodError
        If they are of another method, of other classes or of a network of another shape.
    """
    check_classes(saved, method)
    try:
        method.load_state(saved.state)
    except RuntimeError as error:  # torch: keys or shapes do not match
        raise MethodError(
            f"The weights {saved.path} are of a network of another shape; start without."
        ) from error


def write_config(run_dir: Path, method: Method, notes: Mapping[str, Any]) -> None:
    """Write ``config.yaml``: all that is needed to know what a run was."""
    text = yaml.safe_dump(
        {
            "method": method.name,
            "classes": {kind: list(names) for kind, names in method.vocabulary.items()},
            "device": str(method.device),
            "torch": str(torch.__version__),
            **notes,
            "config": method.config.model_dump(mode="json"),
        },
        sort_keys=False,
    )
    ckpt.write_atomically(run_dir / "config.yaml", text.encode())


def _listed(vocabulary: Mapping[str, tuple[str, ...]]) -> str:
    """All class names, in words."""
    return ", ".join(name for names in vocabulary.values() for name in names)
