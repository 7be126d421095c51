from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotor:
    """Turns features of one width."""

    K: int
    base: float = 10_000.0
    names: ClassVar[list[str]] = []
    notes: dict[str, int] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.K < 1 or self.K % 2:
            raise ValueError(f"cannot pair {self.K} features")

    @functools.cached_property
    def speeds(self) -> list[float]:
        return [self.base ** (-2 * i / self.K) for i in range(self.K // 2)]

    def angles(self, positions: Tensor, dtype: torch.dtype) -> Tensor:
        return positions.to(dtype).unsqueeze(-1) * torch.tensor(self.speeds, dtype=dtype, device=positions.device)


@functools.lru_cache(maxsize=None)
def rotor(K: int, base: float) -> Rotor:
    return Rotor(K, base)


@functools.cache  # of tensors, which are told apart by who they are
def rotary_angles(positions: Tensor, head_dim: int, base: float = 10_000.0) -> Tensor:
    return rotor(head_dim, base).angles(positions, torch.float32)


def apply_rotary(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    match tuple(positions.shape):
        case (T,) if T == x.shape[-2]:
            pass
        case other:
            raise ValueError(f"{other} positions")
    dtype = {torch.float64: torch.float64}.get(x.dtype, torch.float32)
    angles = rotor(x.shape[-1], base).angles(positions, dtype)
    z = torch.view_as_complex(x.to(dtype).unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(z * torch.polar(torch.ones_like(angles), angles)).flatten(-2).to(x.dtype)
