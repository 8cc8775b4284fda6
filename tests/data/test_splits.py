import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from keras_qan.data import (
    DatasetDamagedError,
    DatasetNotPreparedError,
    TooFewExamplesError,
    UnknownDatasetError,
    load,
)


def rows(examples):
    """Each example as something that can be put in a set; all digits differ from each other."""
    return [image.tobytes() for image in examples.x]


def shares(examples, num_classes=10):
    return np.bincount(examples.y, minlength=num_classes) / len(examples)


def test_digits_come_in_three_parts_that_share_no_image():
    splits = load("digits")
    parts = [set(rows(part)) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
    # Classes have 174 to 183 images; a fifth of each, rounded down, makes 355 in all.
    assert [len(part) for part in parts] == [1202, 240, 355]
    assert (splits.name, splits.num_classes, splits.input_shape) == ("digits", 10, (8, 8, 1))


def test_arrays_have_the_promised_types():
    splits = load("digits")
    for part in (splits.train, splits.validation, splits.test):
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int64
        assert part.x.shape == (len(part), 8, 8, 1)


def test_inputs_are_standardised_with_the_training_split():
    splits = load("digits")
    assert abs(splits.train.x.mean(dtype=np.float64)) < 1e-5
    assert abs(splits.train.x.std(dtype=np.float64) - 1.0) < 1e-5
    # An affine map of the ink counts, the same one for all parts.
    source = load_digits()
    ink = np.unique(source.images)
    levels = np.unique(np.concatenate([splits.train.x, splits.validation.x, splits.test.x]))
    assert levels.size == ink.size == 17
    slope = (levels[-1] - levels[0]) / 16
    # Stretched to 255 grey levels and rounded, hence half a level of tolerance.
    np.testing.assert_allclose(levels, levels[0] + slope * ink, atol=slope * 16 / 255 / 2 * 1.01)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.02, 1.0), st.floats(0.02, 1.0), st.integers(0, 5))
def test_a_smaller_fraction_is_a_subset_and_leaves_the_other_parts_alone(one, other, seed):
    small = load("digits", train_fraction=min(one, other), seed=seed)
    large = load("digits", train_fraction=max(one, other), seed=seed)
    assert set(rows(small.train)) <= set(rows(large.train))
    assert np.array_equal(small.validation.x, large.validation.x)
    assert np.array_equal(small.test.x, large.test.x)


@settings(max_examples=6, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.05, 0.9), st.integers(0, 5))
def test_classes_keep_their_shares(train_fraction, validation_fraction, seed):
    splits = load(
        "digits",
        train_fraction=train_fraction,
        validation_fraction=validation_fraction,
        seed=seed,
    )
    source = np.bincount(load_digits().target) / 1797
    for part in (splits.train, splits.validation, splits.test):
        # Each of the at most three divisions moves a class by about one example.
        assert np.abs(shares(part) - source).max() * len(part) <= 3.0


def test_fractions_give_their_exact_sizes():
    splits = load("digits", train_fraction=0.25, validation_fraction=0.5)
    assert (len(splits.validation), len(splits.train)) == (721, 180)  # of 1442, then of 721


def test_a_seed_repeats_its_splits_and_another_one_makes_others():
    first, again, other = load("digits", seed=1), load("digits", seed=1), load("digits", seed=2)
    assert np.array_equal(first.train.x, again.train.x)
    assert np.array_equal(first.validation.y, again.validation.y)
    assert set(rows(first.validation)) != set(rows(other.validation))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_outside_of_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match=r"train_fraction is .*\(0, 1\].*Pass"):
        load("digits", train_fraction=fraction)
    with pytest.raises(ValueError, match=r"validation_fraction is .*\(0, 1\)"):
        load("digits", validation_fraction=fraction)


def test_holding_everything_out_is_refused():
    with pytest.raises(ValueError, match=r"validation_fraction is 1\.0"):
        load("digits", validation_fraction=1.0)


def test_a_fraction_that_leaves_a_class_empty_is_refused():
    with pytest.raises(TooFewExamplesError, match=r"train_fraction=0\.005.*none.*larger"):
        load("digits", train_fraction=0.005)  # 6 images of 10 classes
    with pytest.raises(TooFewExamplesError, match=r"validation_fraction=0\.001"):
        load("digits", validation_fraction=0.001)


def test_a_misspelt_name_gets_near_names():
    with pytest.raises(UnknownDatasetError, match=r"'minst'.*Did you mean mnist"):
        load("minst")
    with pytest.raises(UnknownDatasetError, match=r"Did you mean digits"):
        load("digit")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cifar-10", "cifar10"), ("CIFAR 100", "cifar100"), ("fashion mnist", "fashion_mnist")],
)
def test_a_name_in_another_spelling_gets_the_one_that_it_means(name, meant):
    with pytest.raises(UnknownDatasetError, match=rf"'{name}'.*Did you mean {meant}\?"):
        load(name)


def test_a_name_like_no_other_gets_the_familiar_ones():
    with pytest.raises(UnknownDatasetError, match="Try digits, mnist, cifar10"):
        load("zzzzzzzzqqqqqq")


def test_a_known_data_set_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DatasetNotPreparedError, match=r"tfds\.load\('mnist'.*TFDS_DATA_DIR"):
        load("mnist")
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_without_classes_of_images_is_refused(tmp_path):
    from keras_qan.data import tfds

    class Words(tfds.tfds.testing.DummyDataset):
        pass

    Words(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(ValueError, match="expected 8-bit images of one size"):
        load("words", data_dir=tmp_path)


def test_files_cut_short_are_reported_as_damaged(tmp_path):
    from keras_qan.data import tfds

    class Shapes(tfds.tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.tfds.core.Version("1.0.0")

        def _info(self):
            label = tfds.tfds.features.ClassLabel(num_classes=2)
            image = tfds.tfds.features.Image(shape=(4, 4, 1))
            features = tfds.tfds.features.FeaturesDict({"image": image, "label": label})
            return self.dataset_info_from_configs(
                features=features, supervised_keys=("image", "label")
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            for number in range(100):
                yield number, {"image": np.full((4, 4, 1), number, np.uint8), "label": number % 2}

    Shapes(data_dir=tmp_path).download_and_prepare()
    (record,) = tmp_path.glob("shapes/*/shapes-train.tfrecord*")
    record.write_bytes(record.read_bytes()[:-1000])
    with pytest.raises(DatasetDamagedError, match=r"'train' of 'shapes'.*Delete that folder"):
        load("shapes", data_dir=tmp_path)


@pytest.mark.slow
def test_mnist_is_read_from_the_disk(prepared):
    splits = load("mnist", train_fraction=0.2, data_dir=prepared("mnist"))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (10_000, 10_000, 10_000)
    assert splits.input_shape == (28, 28, 1)
    assert splits.train.y[splits.train.y == 1].size == 1124  # of 6,742 ones in 60,000


@pytest.mark.stress
def test_cifar10_is_read_from_the_disk_and_standardised_by_channel(prepared):
    splits = load("cifar10", validation_fraction=0.1, data_dir=prepared("cifar10"))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (45_000, 5_000, 10_000)
    assert splits.input_shape == (32, 32, 3)
    channels = splits.train.x.reshape(-1, 3)
    assert np.abs(channels.mean(axis=0, dtype=np.float64)).max() < 1e-4
    assert np.abs(channels.std(axis=0, dtype=np.float64) - 1.0).max() < 1e-4
    assert np.bincount(splits.train.y).tolist() == [4_500] * 10
