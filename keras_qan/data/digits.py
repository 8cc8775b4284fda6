"""`digits`: 1,797 real handwritten digits that need no network, as a TFDS builder."""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_qan.data.tfds import prepared_folder, quiet, tfds

# Of so many examples of a class, one is a test example.
_TEST_EVERY = 5

_VERSION = "1.0.0"

# The place of this version within a folder of prepared data sets.
_PLACE = Path("digits") / _VERSION


class Digits(tfds.core.GeneratorBasedBuilder):
    """The 8×8 digits that scikit-learn carries, from the UCI Machine Learning Repository.

    Pixels are the counts of ink 0 to 16 of the original, stretched to 0 to 255 and rounded, so
    that viewers show them; `round(pixel * 16 / 255)` gives the count back. The split is fixed:
    within each class, in the order of the source, every fifth example (the 5th, 10th, ...) is in
    `test` and the others are in `train`, which makes it stratified and spreads it over writers.
    """

    VERSION = tfds.core.Version(_VERSION)
    RELEASE_NOTES = {_VERSION: "Initial release."}  # noqa: RUF012  (TFDS reads a plain dict)
    # Nothing is downloaded, so there are no checksums. TFDS 4.9.10 would look for them with a
    # package (importlib_resources) that it does not install on Python 3.9 and later.
    url_infos = None

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            description="1,797 handwritten digits of 8x8 pixels, from 43 writers.",
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=(
                "@misc{alpaydin1998optical, author={Alpaydin, E. and Kaynak, C.}, "
                "title={Optical Recognition of Handwritten Digits}, year={1998}, "
                "howpublished={UCI Machine Learning Repository}, doi={10.24432/C50P49}}"
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing to download
        from sklearn.datasets import load_digits

        source = load_digits()
        pixels = np.rint(source.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
        labels = source.target.astype(np.int64)
        in_test = held_for_test(labels)
        return {
            "train": self._generate_examples(pixels, labels, np.flatnonzero(~in_test)),
            "test": self._generate_examples(pixels, labels, np.flatnonzero(in_test)),
        }

    def _generate_examples(
        self,
        pixels: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        members: npt.NDArray[np.int64],
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in members.tolist():
            yield index, {"image": pixels[index], "label": int(labels[index])}


def held_for_test(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask of the examples in `test`: every fifth of each class.

    Args:
        labels: class of each example in the order of the source, int64 [N].

    Returns:
        bool [N].

    Example:
        >>> held_for_test(np.zeros(11, np.int64)).nonzero()[0].tolist()
        [4, 9]
    """
    chosen = np.zeros(labels.size, np.bool_)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    return chosen


def prepared_digits(data_dir: str | os.PathLike[str] | None) -> Any:
    """Return the builder of `digits`, which is prepared now if it never was.

    TFDS_DATA_DIR (or TFDS's own default) is read where it holds the data set, and never written,
    as it is often shared. Otherwise the first of these that holds it or can be written is used:
    data_dir, the user's cache, a temporary folder of the user.

    Args:
        data_dir: folder of prepared data sets, or None.

    Raises:
        PermissionError: if none of the folders can be written.
    """
    if data_dir is None and _is_prepared(shared := Path(prepared_folder(None))):
        return Digits(data_dir=shared)
    folders = [Path(os.path.expanduser(data_dir))] if data_dir is not None else []
    folders += [_cache_folder(), _temporary_folder()]
    refusals = []
    for folder in folders:
        try:
            if not _is_prepared(folder):
                _prepare(folder)
            return Digits(data_dir=folder)
        except OSError as error:
            refusals.append(f"{folder} ({error.strerror or error})")
    raise PermissionError(
        f"Received no folder to prepare `digits` in: {'; '.join(refusals)}; expected one that can "
        "be written. Pass data_dir=, or set XDG_CACHE_HOME or TMPDIR to a folder of yours."
    )


def _is_prepared(folder: Path) -> bool:
    # Not asked of TFDS: a builder without files leaves an empty temporary folder behind.
    return (folder / _PLACE / "dataset_info.json").is_file()


def _prepare(folder: Path) -> None:
    """Prepare in a temporary folder, and move the result into place at once.

    Two processes may do this at the same time: the second to move uses the first one's files.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=".digits-", dir=folder) as aside:
        # TFDS prints where it writes.
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            Digits(data_dir=aside).download_and_prepare()
        (folder / _PLACE).parent.mkdir(exist_ok=True)
        try:
            os.rename(Path(aside) / _PLACE, folder / _PLACE)
        except OSError:
            if not _is_prepared(folder):
                raise


def _cache_folder() -> Path:
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "keras_qan"


def _temporary_folder() -> Path:
    """A folder of the user within the shared temporary folder."""
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"keras_qan-{owner}"
    if folder.exists() and hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="keras_qan-"))
    return folder
