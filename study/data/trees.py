"""Images as single files: any folder, CelebA, ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from study.data import arrays, tables
from study.data.contents import SPLIT_WORDS, Contents, File, Part, Source, file_at, gather, missing, reason, scan
from study.data.pictures import SUFFIXES, Form, Picture, blocks, survey
from study.errors import UserError

CELEBA_SIZE = (178, 218)
CELEBA_SPLITS = {"0": "train", "1": "selection", "2": "test"}

Tree = tuple[list[File], list[int | str] | None]
"""Picture files in the order of their paths, and each one's class, the name of its folder."""


def pictures(name: str, folder: Path, form: Form) -> Source:
    """A folder of pictures, or of folders, one per class, or of Parquet files.

    Folders called train and test (or val, valid or validation) and nothing else are those splits. Hidden files are left
    out; any other file that is no picture is refused, as are pictures beside folders.

    Raises:
        UserError: For a folder that is none of these.
    """
    if any(folder.glob("*.parquet")):
        return tables.parquet(name, folder, form)
    _, folders = scan(folder, folder)
    words = [SPLIT_WORDS.get(inner.name) for inner in folders]
    if "train" in words and len(words) > 1 and None not in words:
        trees = {str(word): tree(inner, folder) for word, inner in zip(words, folders, strict=True)}
    else:
        trees = {"train": tree(folder, folder)}
    return _source("folder", name, folder, form, trees)


def tree(folder: Path, base: Path) -> Tree:
    """The pictures of a folder without folders, or those of its folders with their names as classes.

    Raises:
        UserError: If it holds both or neither, or anything that is called like no picture.
    """
    files, folders = scan(folder, base)
    if files and folders:
        raise UserError(
            f"{folder} holds files ({Path(files[0].name).name}) beside folders ({folders[0].name}): "
            "either pictures or one folder per class is needed"
        )
    if not folders:
        return _checked(folder, files), None
    found: list[File] = []
    classes: list[int | str] = []
    for inner in folders:
        files, deeper = scan(inner, base)
        if deeper:
            raise UserError(f"the class folder {inner} holds the folder {deeper[0].name}: it has to hold pictures")
        found += _checked(inner, files)
        classes += [inner.name] * len(files)
    return found, classes


def _checked(folder: Path, files: list[File]) -> list[File]:
    """Files that are all called like pictures, at least one."""
    if not files:
        raise UserError(f"there are no pictures in {folder}")
    for file in files:
        if not file.name.lower().endswith(SUFFIXES):
            raise UserError(f"{file.path} is not called like a picture ({', '.join(SUFFIXES)})")
    return files


def _source(
    kind: str, name: str, place: Path, form: Form, trees: Mapping[str, Tree], others: Sequence[File] = ()
) -> Source:
    """Picture files by split."""

    def read() -> Contents:
        items = {split: [Picture(file.path, file.path) for file in files] for split, (files, _) in trees.items()}
        channels, side = survey(chain(*items.values()), form)
        shape = (channels, side, side)
        parts = {s: Part(len(items[s]), classes, blocks(items[s], form, shape)) for s, (_, classes) in trees.items()}
        return gather(place, shape, parts)

    files = [*chain(*(files for files, _ in trees.values())), *others]
    return Source(kind, name, str(form), place, files, repr(form), read)


def celeba(root: Path, *, size: int = 64, crop: int = 108) -> Source:
    """CelebA (Liu et al. 2015), aligned, 178 x 218, its published training, validation and test images, no labels.

    In `celeba/`: the folder img_align_celeba of 000001.jpg and so on, and list_eval_partition.txt. The middle 108 x 108
    pixels, the usual crop, are resized to 64 x 64 unless told otherwise. Validation is the selection split.

    Raises:
        UserError: If a file is missing, or the list is not what it should be.
    """
    folder, listing = root / "celeba" / "img_align_celeba", root / "celeba" / "list_eval_partition.txt"
    for path in (folder, listing):
        if not path.exists():
            raise missing("celeba", root, str(path.relative_to(root)))
    present = {Path(file.path).name: file for file in scan(folder, folder)[0]}
    trees: dict[str, Tree] = {}
    for number, line in enumerate(_lines(listing), 1):
        name, _, split = line.partition(" ")
        if split.strip() not in CELEBA_SPLITS:
            raise UserError(f"{listing} says {line!r} in line {number}: a file's name and 0, 1 or 2 are needed")
        if name not in present:
            raise UserError(f"{listing} names {name} in line {number}, and {folder} has no such file")
        trees.setdefault(CELEBA_SPLITS[split.strip()], ([], None))[0].append(present[name])
    lacking = [word for word in CELEBA_SPLITS.values() if word not in trees]
    if lacking:
        raise UserError(f"{listing} has no images of the {lacking[0]} split: 0 is train, 1 selection, 2 test")
    form = Form(size, crop, CELEBA_SIZE, 3)
    return _source("celeba", "celeba", folder.parent, form, trees, [file_at(listing, folder.parent)])


def _lines(listing: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        return [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {listing}: {reason(error)}") from None


def imagenet(root: Path, *, side: int) -> Source:
    """ImageNet (ILSVRC 2012): the middle square of each picture resized to `side`; val is the test split.

    In `imagenet/train/<class>/` and `imagenet/val/<class>/`, classes by WordNet number, numbered in sorted order. For
    32 and 64 pixels, `imagenet32/` and `imagenet64/` with resized images come first, see `arrays.batches`.

    Raises:
        UserError: If there is neither, or a folder holds anything else.
    """
    name = f"imagenet{side}"
    if side in (32, 64) and (root / name).is_dir():
        return arrays.batches(root, side)
    folder = root / "imagenet"
    trees: dict[str, Tree] = {}
    for word, split in {"train": "train", "val": "test"}.items():
        if not (folder / word).is_dir():
            raise missing(name, root, f"imagenet/{word}/<class>/*.JPEG")
        trees[split] = tree(folder / word, folder)
        if trees[split][1] is None:
            raise UserError(f"{name}: {folder / word} holds pictures: one folder per class is needed")
    return _source("imagenet", name, folder, Form(side, channels=3), trees)
