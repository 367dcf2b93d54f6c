"""Image files in the formats that users have, written small.

Images are uint8 of shape (n, h, w) or (n, h, w, 3), labels n whole numbers; a function returns what it wrote into.
"""

import gzip
import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def pictures(n, side=8, *, colour=True, seed=0):
    """Random images, no two alike."""
    shape = (n, side, side, 3) if colour else (n, side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def first(images):
    """As a set has them: channels first."""
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def idx(array):
    """An idx file's bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_mnist(folder, train, test, *, zipped=False, dots=False):
    """Four idx files; train and test are pairs of images (n, 28, 28) and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, (images, labels) in {"train": train, "t10k": test}.items():
        for what, content in {"images-idx3": images, "labels-idx1": np.asarray(labels)}.items():
            name = f"{stem}-{what.replace('-', '.') if dots else what}-ubyte"
            data = idx(content)
            (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    return folder


def write_cifar_pickles(folder, train, test):
    """Five training batches and a test batch, pickled as Python 2 would be read: protocol 2, keys of bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = train
    shares = zip(BATCHES, np.array_split(first(images), 5), np.array_split(np.asarray(labels), 5), strict=True)
    for name, pixels, numbers in [*shares, ("test_batch", first(test[0]), np.asarray(test[1]))]:
        content = {
            b"batch_label": name.encode(),
            b"labels": numbers.tolist(),
            b"data": np.ascontiguousarray(pixels.reshape(len(pixels), -1)),
            b"filenames": [b"a.png"] * len(pixels),
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def write_npz(path, images, labels=None, test=None):
    """Arrays images and labels, and test_images and test_labels of a pair."""
    arrays = {"images": images} | ({} if labels is None else {"labels": np.asarray(labels)})
    if test is not None:
        arrays |= {"test_images": test[0]} | ({} if test[1] is None else {"test_labels": np.asarray(test[1])})
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def encoded(image, kind="PNG", **options):
    """An image file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def write_parquet(path, images, labels=None, *, column="image", plain=False, kind="PNG", rows=7):
    """The hub's layout: a struct of bytes and path, or plain bytes, and label; several row groups."""
    data = [encoded(image, kind) for image in images]
    table = {column: data if plain else [{"bytes": d, "path": f"{i}.png"} for i, d in enumerate(data)]}
    if labels is not None:
        table["label"] = list(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path, row_group_size=rows)
    return path


def write_folder(folder, images, labels=None, *, suffix="png", **options):
    """One file per image, in a folder per class where there are labels; in the order given within each."""
    kind = {"jpg": "JPEG", "jpeg": "JPEG"}.get(suffix.lower(), suffix.upper())
    for i, image in enumerate(images):
        inner = folder if labels is None else folder / str(labels[i])
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"{i:06}.{suffix}").write_bytes(encoded(image, kind, **options))
    return folder


def write_celeba(root, images, parts, *, quality=95):
    """JPEG files 178 wide and 218 high, images (n, 218, 178, 3), and the list of parts 0, 1, 2."""
    folder = root / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    names = [f"{i:06}.jpg" for i in range(1, len(images) + 1)]
    for name, image in zip(names, images, strict=True):
        (folder / name).write_bytes(encoded(image, "JPEG", quality=quality))
    lines = [f"{name} {part}\n" for name, part in zip(names, parts, strict=True)]
    (root / "celeba" / "list_eval_partition.txt").write_text("".join(lines))
    return root / "celeba"


def write_imagenet_batches(folder, train, test):
    """Chrabaszcz's ten training files and one of validation; labels are written from 1 on."""
    folder.mkdir(parents=True)
    images, labels = train
    shares = zip(range(1, 11), np.array_split(first(images), 10), np.array_split(np.asarray(labels), 10), strict=True)
    named = [(f"train_data_batch_{i}", *share) for i, *share in shares]
    for name, pixels, numbers in [*named, ("val_data", first(test[0]), np.asarray(test[1]))]:
        np.savez(folder / f"{name}.npz", data=pixels.reshape(len(pixels), -1), labels=numbers + 1, mean=np.zeros(3))
    return folder
