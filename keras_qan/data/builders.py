"""From the name of a data set to its TFDS builder."""

import difflib
import os
import re
from typing import Any

from keras_qan.data.errors import DatasetNotPreparedError, UnknownDatasetError
from keras_qan.data.tfds import FAMILIAR, prepared_folder, quiet, tfds


def prepared_builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """Return the TFDS builder of a data set that is on disk; never download.

    Args:
        name: any name TensorFlow Datasets knows, with config and version if wanted.
        data_dir: folder of prepared data sets; None for TFDS_DATA_DIR, or TFDS's own default.

    Returns:
        A `tfds.core.DatasetBuilder`.

    Raises:
        UnknownDatasetError: if TensorFlow Datasets has no such name either.
        DatasetNotPreparedError: if the name is known and its files are not there.
    """
    folder = prepared_folder(data_dir)
    with quiet():
        try:
            tfds.core.naming.parse_builder_name_kwargs(name)
        except ValueError:  # no name that could be registered, such as "cifar-10"
            raise UnknownDatasetError(_unknown(name)) from None
        try:
            builder = tfds.builder(name, data_dir=folder)
        except tfds.core.registered.DatasetNotFoundError:
            raise UnknownDatasetError(_unknown(name)) from None
        prepared = builder.is_prepared()
    if not prepared:
        raise DatasetNotPreparedError(
            f"Received the data set {name!r}, which is known but was not found in {folder}; "
            "expected its prepared files there. Prepare it once, with a network: "
            f"`python -c \"import tensorflow_datasets as tfds; tfds.load('{name}', "
            f"data_dir='{folder}')\"` (or `tfds build {name}` where apache-beam is installed), "
            "or point the environment variable TFDS_DATA_DIR to a folder that holds it."
        )
    return builder


def _unknown(name: str) -> str:
    known = [*FAMILIAR, *tfds.list_builders(with_community_datasets=False)]
    plain = {re.sub(r"\W|_", "", other): other for other in reversed(known)}
    same = plain.get(re.sub(r"\W|_", "", name.lower()))
    close = difflib.get_close_matches(name.lower(), known, n=3)
    near = [same] if same else list(dict.fromkeys(close))
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Try {', '.join(FAMILIAR)}."
    return (
        f"Received the data set {name!r}; expected `digits`, or a name that TensorFlow Datasets "
        f"knows. {hint}"
    )
