"""torch, imported when first used: reading a sweep, planning it and reporting on it do without, and start at once.

Modules that such commands pass through say `from study.lazy import torch`, use nothing of it while they are imported,
and name `Tensor` only in annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch as torch
else:

    class _Torch:
        def __getattr__(self, name: str) -> object:
            import torch

            return getattr(torch, name)

    torch = _Torch()
