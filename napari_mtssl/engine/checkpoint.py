"""Weights on disk: safetensors only, written so that a kill at any moment leaves the former state readable.

A checkpoint is two files. ``last.safetensors`` holds what `Method.state` gives and, in its metadata, the
step, the settings and the name of ``last.TOKEN.optim.safetensors``, the optimiser's state of the same step.
The optimiser's file is on disk before the weights' file, in one atomic replacement, starts to name it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from napari_mtssl.engine.devices import pick_device
from napari_mtssl.methods import get_method
from napari_mtssl.methods.base import Method, MethodError
from napari_mtssl.methods.labels import named_now

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What `load` found.

    Attributes
    ----------
    path : Path
    state : dict of str to Tensor
        For `Method.load_state`; on the CPU.
    meta : dict
        ``step``, ``method``, ``preset``, ``config``, ``classes``, ``pixel_size_um``, ``optimiser`` (a file
        name or None) and what `save` was given as `progress` and `notes`.
    """

    path: Path
    state: dict[str, torch.Tensor]
    meta: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser updates done."""
        return int(self.meta["step"])

    def optimiser_state(self) -> dict[str, Any]:
        """Read the optimiser's state of the same step.

        Raises
        ------
        MethodError
            If the file is missing or damaged.
        """
        tensors, meta = _read(self.path.with_name(str(self.meta["optimiser"])))
        return unflatten_optimiser(tensors, meta)


def save(
    run_dir: Path,
    which: str,
    method: Method,
    optimiser: torch.optim.Optimizer,
    step: int,
    *,
    progress: Mapping[str, Any] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write weights and optimiser state atomically.

    Parameters
    ----------
    run_dir : Path
    which : str
        ``last`` or ``best``.
    method, optimiser, step
        What to keep, after `step` updates.
    progress : mapping, optional
        What the loop needs to go on (JSON types).
    notes : mapping, optional
        Provenance, such as ``pixel_size_um`` (JSON types).

    Returns
    -------
    Path
        The file of the weights.

    Raises
    ------
    OSError
        If the disk is full or the folder is gone; the former checkpoint is untouched.
    """
    tensors, scalars = flatten_optimiser(optimiser.state_dict())
    optimiser_name = f"{which}.{uuid.uuid4().hex[:8]}.optim.safetensors"
    meta = {
        "step": step,
        "method": method.name,
        "preset": method.config.preset,
        "config": method.config.model_dump(mode="json"),
        "vocabulary": {kind: list(names) for kind, names in method.vocabulary.items()},
        "optimiser": optimiser_name,
        **(notes or {}),
        **(progress or {}),
    }
    _write(run_dir / optimiser_name, tensors, scalars)
    path = run_dir / f"{which}.safetensors"
    _write(path, method.state(), meta)
    for old in run_dir.glob(f"{which}.*.optim.safetensors"):
        if old.name != optimiser_name:
            old.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint's weights and metadata to the CPU.

    Raises
    ------
    MethodError
        If the file is missing, damaged, or written by a newer version.
    """
    state, meta = _read(Path(path))
    return Checkpoint(Path(path), state, meta)


def find(run_dir: str | Path, which: str = "best") -> Path:
    """Path of a run's weights.

    A run without held-out labels has no ``best``: its ``last`` weights are the best that is known.

    Raises
    ------
    MethodError
        If the run has no checkpoint yet.
    """
    run_dir = Path(run_dir)
    for name in ("best", "last") if which == "best" else (which,):
        if (run_dir / f"{name}.safetensors").is_file():
            return run_dir / f"{name}.safetensors"
    raise MethodError(
        f"The run '{run_dir.name}' has no checkpoint yet: train it first, or choose another run."
    )


def load_method(run_dir: str | Path, which: str = "best", device: str = "auto") -> Method:
    """Bring a trained method back for prediction.

    Parameters
    ----------
    run_dir : path
        Folder ``runs/NAME`` of a study.
    which : {'best', 'last'}
        ``best`` means ``last`` where the run had no held-out labels.
    device : str
        See `pick_device`.

    Raises
    ------
    MethodError
        If there is no readable checkpoint, or its method is not installed.
    """
    return build_method(load(find(run_dir, which)), pick_device(device))


def build_method(checkpoint: Checkpoint, device: torch.device, **overrides: Any) -> Method:
    """Construct the method a checkpoint was written by, with its settings and weights.

    Raises
    ------
    MethodError
        If a setting is not valid any more.
    """
    meta = checkpoint.meta
    cls = get_method(meta["method"])
    config = cls.configuration({**meta["config"], **overrides})
    method = cls(config, vocabulary(checkpoint), device)
    method.load_state(checkpoint.state)
    return method


def vocabulary(checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    """Class names by kind: those of today, if the run lies in its study and classes were renamed since.

    Raises
    ------
    StudyError
        If that study cannot be read.
    """
    meta, runs = checkpoint.meta, checkpoint.path.absolute().parent.parent
    # version 1 knew only cells
    found = meta["vocabulary"] if "vocabulary" in meta else {"cell": meta["classes"]}
    if runs.name == "runs" and (runs.parent / "study.sqlite").is_file():
        from napari_mtssl.study import Study

        with Study.open(runs.parent) as study:
            return named_now(study, found)
    return {kind: tuple(names) for kind, names in found.items()}


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by new content that is on disk when the call returns.

    Raises
    ------
    OSError
        If it cannot be written; the former content is untouched then.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name itself must survive a power cut
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(run_dir: Path) -> None:
    """Delete what a killed run left half written; no checkpoint names these files."""
    for path in run_dir.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def flatten_optimiser(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors (named ``INDEX.NAME``) and JSON values."""
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, Any] = {"state": {}, "groups": []}
    for index, entries in state["state"].items():
        scalars["state"][str(index)] = {}
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                scalars["state"][str(index)][name] = value
    for number, group in enumerate(state["param_groups"]):
        plain = {k: v for k, v in group.items() if not isinstance(v, torch.Tensor)}
        scalars["groups"].append(plain)
        tensors |= {f"group{number}.{k}": v for k, v in group.items() if isinstance(v, torch.Tensor)}
    return tensors, scalars


def unflatten_optimiser(tensors: Mapping[str, torch.Tensor], scalars: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten_optimiser`, for `Optimizer.load_state_dict`."""
    state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in scalars["state"].items()}
    # JSON knows no tuples; optimisers keep none but betas and the like as lists would not compare equal
    groups = [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        for group in scalars["groups"]
    ]
    for key, value in tensors.items():
        owner, _, name = key.partition(".")
        if owner.startswith("group"):
            groups[int(owner.removeprefix("group"))][name] = value
        else:
            state[int(owner)][name] = value
    return {"state": state, "param_groups": groups}


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a saved state, and lay its tensors out in memory as the parameters are.

    A file keeps no strides, and moments that lie differently from ``channels_last`` weights cost time.
    """
    optimiser.load_state_dict(state)
    for parameter, entries in optimiser.state.items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _write(path: Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
    # a copy also separates tensors that share memory, which safetensors refuses
    copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    text = {"format": "pt", "napari_mtssl": json.dumps({"version": FORMAT, **meta})}
    write_atomically(path, to_bytes(copies, metadata=text))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if not path.is_file():
        raise MethodError(f"There is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("napari_mtssl")
            # clones: the file must not stay mapped while a later save replaces it
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise MethodError(f"The checkpoint {path.name} is damaged ({error}); use another one.") from error
    if text is None:
        raise MethodError(f"{path.name} holds weights, but not of napari-mtssl; choose a run of this study.")
    meta = json.loads(text)
    if meta.pop("version") > FORMAT:
        raise MethodError(f"{path.name} was written by a newer napari-mtssl; update the program to use it.")
    return tensors, meta
