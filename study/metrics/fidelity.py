"""Features of images by Inception, VGG16 and CLIP: the one door to torch-fidelity and torchvision.

Weights are not shipped. They are looked for under the name that torch-fidelity downloads them by, in the folder
MANYPATHS_WEIGHTS or else in the cache of torch.hub ($TORCH_HOME/hub/checkpoints), and downloaded only if
MANYPATHS_DOWNLOAD is 1. Nothing is loaded whose hash is not the one in its name, since loading can run code.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from study.errors import UserError, unknown
from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Extractor(NamedTuple):
    """A network of torch-fidelity.

    Attributes:
        name: What torch-fidelity calls it.
        file: Name of the file with its weights; holds the start of their SHA-256.
        url: Where that file comes from.
        layer: The output that is compared.
        logits: The output that Inception scores are made of, or "".
    """

    name: str
    file: str
    url: str
    layer: str
    logits: str = ""


class Features(NamedTuple):
    """What `features` returns.

    Attributes:
        features: Float32, shape (n, k): 2048 wide for Inception, 4096 for VGG16, 512 or 768 for CLIP.
        logits: Float32, shape (n, 1008), without the last layer's bias, for Inception scores; else None.
    """

    features: Tensor
    logits: Tensor | None


def _clip(name: str, digest: str, original: str) -> Extractor:
    url = f"https://openaipublic.azureedge.net/clip/models/{digest}/{original}.pt"
    return Extractor(name, f"{name}-{digest}.pt", url, layer="clip")


EXTRACTORS = {
    "inception": Extractor(
        "inception-v3-compat",
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        layer="2048",
        logits="logits_unbiased",
    ),
    "vgg16": Extractor(
        "vgg16",
        "vgg16-397923af.pth",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        layer="fc2_relu",
    ),
    "clip-vit-b-32": _clip(
        "clip-vit-b-32", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", "ViT-B-32"
    ),
    "clip-vit-l-14-336px": _clip(
        "clip-vit-l-14-336px", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02", "ViT-L-14-336px"
    ),
}
"""Inception is what FID, KID and IS are named after; VGG16 and CLIP give other numbers, and names of their own."""


def weights_file(extractor: str) -> Path:
    """Where the weights of an extractor are expected, whether or not they are there.

    Raises:
        UserError: If there is no such extractor.
    """
    folder = os.environ.get("MANYPATHS_WEIGHTS") or Path(torch.hub.get_dir()) / "checkpoints"
    return Path(folder) / _extractor(extractor).file


def check(extractor: str) -> None:
    """Raise now what would stop `features` later; loads and downloads nothing.

    Raises:
        UserError: If there is no such extractor, torch-fidelity is not installed, or the weights are neither there nor
            to be downloaded.
    """
    file, entry = weights_file(extractor), _extractor(extractor)
    _require_packages(extractor)
    if not file.is_file() and not _may_download():
        raise UserError(
            f"the extractor {extractor} needs the file {entry.file}, and {file.parent} has none: put it there "
            f"from {entry.url}, or set MANYPATHS_DOWNLOAD=1 to have it fetched"
        )


def features(
    images: Tensor, extractor: str, *, weights: Path | None = None, device: torch.device | str = "cpu", batch: int = 64
) -> Features:
    """Features of images by one of `EXTRACTORS`; they come back on the CPU.

    Args:
        images: Bytes, shape (n, 3, h, w) or grey (n, 1, h, w), of any size; see `images.quantise`.
        extractor: Name of the extractor.
        weights: A file with its weights, in place of the expected one.
        device: Where the network runs.
        batch: Images that go through it at once.

    Raises:
        UserError: As `check`, and if the weights are not those whose hash is in their file's name.
        ValueError: If the images are not bytes of one or three channels.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"an extractor needs bytes (n, 1 or 3, h, w), got {images.dtype} {tuple(images.shape)}")
    if weights is None:
        check(extractor)
    network = _network(extractor, weights or _fetched(extractor), str(device))
    colours = images.expand(-1, 3, -1, -1)
    exact = torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False)
    with torch.no_grad(), exact:
        parts = [[layer.cpu() for layer in network(part.to(device))] for part in torch.split(colours, batch)]
    joined = [torch.cat(layers) for layers in zip(*parts, strict=True)]
    return Features(joined[0], joined[1] if len(joined) > 1 else None)


@functools.lru_cache(maxsize=1)
def _network(extractor: str, weights: Path, device: str) -> torch.nn.Module:
    """The network, from images to a tuple of layers; kept for the next evaluation."""
    entry = _extractor(extractor)
    _require_packages(extractor)
    _verify(weights)
    build = _builders()[entry.name]
    layers = [layer for layer in (entry.layer, entry.logits) if layer]
    with torch.random.fork_rng(devices=[]):  # layers draw starting weights, which are then overwritten
        network = build(entry.name, layers, feature_extractor_weights_path=str(weights))
    return network.to(device)


def _fetched(extractor: str) -> Path:
    file, entry = weights_file(extractor), _extractor(extractor)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(entry.url, str(file), hash_prefix=_prefix(file.name), progress=False)
        except (OSError, RuntimeError) as error:  # no connection, or another file than expected
            raise UserError(f"{entry.url} cannot be fetched to {file}: {error}") from None
    return file


def _verify(file: Path) -> None:
    """Refuse a file whose name says another hash than it has; a user's own file without one in its name passes."""
    prefix = _prefix(file.name)
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"the weights {file} cannot be read: {error.strerror}") from None
    if prefix and not digest.startswith(prefix):
        raise UserError(f"{file} is not what its name says: its SHA-256 starts with {digest[: len(prefix)]}")


def _prefix(name: str) -> str:
    """Start of the SHA-256 at the end of a file's name, as torch.hub has it, or ""."""
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", name)
    return found[1] if found else ""


def _extractor(name: str) -> Extractor:
    if name not in EXTRACTORS:
        raise unknown("extractor", name, EXTRACTORS)
    return EXTRACTORS[name]


def _require_packages(extractor: str) -> None:
    for package in ("torch_fidelity", "torchvision"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"the extractor {extractor} needs {package.replace('_', '-')}, which is not installed")


def _may_download() -> bool:
    return os.environ.get("MANYPATHS_DOWNLOAD") == "1"


@functools.cache
def _builders() -> Mapping[str, Callable[..., torch.nn.Module]]:
    """torch-fidelity's extractors by name."""
    mend_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not ours to mend
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY  # type: ignore[import-untyped]  # ships no types

    found: Mapping[str, Callable[..., torch.nn.Module]] = FEATURE_EXTRACTORS_REGISTRY
    return found


@functools.cache
def mend_torchvision() -> object:
    """Make torchvision, and so torch-fidelity, importable where torchvision was built for another torch.

    On a CPU build of torch the library of torchvision's CUDA build does not load, and the import fails for want of
    `torchvision::nms`, which no metric calls. It and its like are declared then; what is returned keeps them alive.
    """
    spec = importlib.util.find_spec("torchvision")
    if "torchvision" in sys.modules or spec is None or spec.origin is None:
        return None
    try:
        torch.ops.load_library(Path(spec.origin).with_name("_C.so"))  # type: ignore[no-untyped-call]  # torch's lack
        return None
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's lack
    for name in ("nms", "qnms"):
        signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(signature)  # type: ignore[no-untyped-call]  # torch's lack
    return library
