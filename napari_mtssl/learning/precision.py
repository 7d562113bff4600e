"""Half precision where it pays."""

from __future__ import annotations

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 faster than it converts."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def half_precision(precision: str, device: torch.device) -> torch.autocast:
    """Context in which a network computes in bfloat16, where that is asked for (``auto``) and quick."""
    half = precision == "auto" and has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
