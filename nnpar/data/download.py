"""Well-known data sets from the net, by pooch: checked by their sums, and kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nnpar.data import files
from nnpar.data.cifar import cifar10
from nnpar.data.mnist_folder import mnist

MNIST = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR10 = {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"}
# Files and their sums, and where they are: in turn, if one does not answer.
SETS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "mnist": (
        MNIST,
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    ),
    "fashion-mnist": (FASHION, ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)),
    "cifar10": (CIFAR10, ("https://www.cs.toronto.edu/~kriz/",)),
}


def fetch(name: str, folder: str | os.PathLike[str] | None = None, mirrors: tuple[str, ...] | None = None) -> Any:
    """A well-known data set: from the folder if its files are there, else from the net. Files are checked by their
    sums.

    Parameters
    ----------
    name : {"mnist", "fashion-mnist", "cifar10"}
    folder : path-like, optional
        Where files are kept; by default ``nnpar`` in the user's cache, or what ``NNPAR_DATA`` says.
    mirrors : tuple of str, optional
        Addresses to try in turn, each of a folder of the files, before those that are known.

    Returns
    -------
    tuple
        Train and test, as :func:`mnist` and :func:`cifar10` give them.

    Raises
    ------
    ImportError
        If pooch is missing.
    ValueError
        If there is no such data set, or what came has another sum.
    OSError
        If no address gives the files; the error names all.

    Examples
    --------
    >>> from nnpar import data
    >>> train, test = data.fetch("mnist")  # doctest: +SKIP
    """
    if name not in SETS:
        raise ValueError(f"fetch: name: expected one of {', '.join(SETS)}, got {name!r}")
    try:
        import pooch
    except ImportError as error:
        raise ImportError(f"fetch: pooch is needed: {files.EXTRA}") from error
    registry, known = SETS[name]
    place = Path(folder) if folder is not None else Path(os.environ.get("NNPAR_DATA") or pooch.os_cache("nnpar")) / name
    unpack = pooch.Untar(extract_dir=".") if name == "cifar10" else None
    for file, total in registry.items():
        _retrieve(pooch, file, total, (*(mirrors or ()), *known), place, unpack)
    return cifar10(place / "cifar-10-batches-bin") if name == "cifar10" else mnist(place)


def _retrieve(pooch: Any, file: str, total: str, addresses: tuple[str, ...], place: Path, unpack: Any) -> None:
    problems = []
    for address in addresses:
        try:
            pooch.retrieve(f"{address.rstrip('/')}/{file}", total, file, place, processor=unpack)
        except (OSError, ValueError) as error:  # no answer, or another sum
            problems.append(f"{address}: {error}")
        else:
            return
    raise OSError(f"fetch: {file}: " + "; ".join(problems))
