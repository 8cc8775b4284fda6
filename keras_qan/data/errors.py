"""Errors of data sets."""


class UnknownDatasetError(ValueError):
    """There is no data set of that name."""


class DatasetNotPreparedError(FileNotFoundError):
    """The data set is known, but its files are not on this disk."""


class DatasetDamagedError(RuntimeError):
    """The files of the data set are there, but do not hold what they should."""


class TooFewExamplesError(ValueError):
    """A class would be left without a single example in one of the splits."""
