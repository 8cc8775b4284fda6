import errno
import hashlib
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_qan.storage import checkpoint
from keras_qan.storage.checkpoint import CheckpointError

NAMES = st.text("abcxyz/_0123456789", min_size=1, max_size=12).filter(lambda name: name[0] != "/")
ARRAYS = st.dictionaries(
    NAMES,
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.bool_, np.uint8]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    max_size=4,
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
SAMPLE = {"network/0": np.arange(12.0, dtype=np.float32).reshape(3, 4), "count": np.int64(7)}


def seal(body):
    """A file whose checksum is right, whatever it holds."""
    return b"keras_qan 1 sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


@pytest.fixture
def path(tmp_path):
    checkpoint.write(tmp_path / "one.ckpt", SAMPLE, {"episodes": 3})
    return tmp_path / "one.ckpt"


@pytest.mark.slow
@given(arrays=ARRAYS, data=st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
def test_arrays_and_data_come_back_bit_for_bit(tmp_path, arrays, data):
    path = tmp_path / "some.ckpt"
    checkpoint.write(path, arrays, data)
    found, found_data = checkpoint.read(path)
    assert found_data == data
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("name", ["file", "args", "allow_pickle", "a.npy"])
def test_an_array_may_have_any_name(tmp_path, name):
    checkpoint.write(tmp_path / "one.ckpt", {name: np.ones(2)}, {})
    assert checkpoint.read(tmp_path / "one.ckpt")[0].keys() == {name}


def test_a_file_cut_short_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 37), 1, 18, 19, 82, 83, 84, len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"one\.ckpt"):
            checkpoint.read(path)


@given(st.data())
def test_a_single_changed_bit_is_noticed(path, data):
    whole = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= 1 << data.draw(st.integers(0, 7))
    changed = path.with_name("changed.ckpt")
    changed.write_bytes(whole)
    with pytest.raises(CheckpointError):
        checkpoint.read(changed)


def test_trailing_bytes_are_noticed(path):
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read(path)


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "one.ckpt").touch()
    with pytest.raises(CheckpointError, match="it is empty"):
        checkpoint.read(tmp_path / "one.ckpt")


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path / "one.ckpt")


class Exploding:
    exploded = False

    def __reduce__(self):
        return setattr, (Exploding, "exploded", True)


def _npz(**arrays):
    body = io.BytesIO()
    np.savez(body, **arrays)
    return body.getvalue()


def _npz_with_members(**members):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__dot__", "."), content)
    return body.getvalue()


def _npy_header(shape, dtype="<f4"):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return header.getvalue()


_TEXT = np.frombuffer(b"{}", np.uint8)
_HOSTILE = {
    "a bare pickle": pickle.dumps(Exploding()),
    "object arrays": _npz(__data__=_TEXT, a=np.array([Exploding()], object)),
    "a pickle as a member": _npz_with_members(__data____dot__npy=pickle.dumps(Exploding())),
    "no arrays": b"not a zip file at all",
    "no data": _npz(a=np.ones(2)),
    "data that is no object": _npz(__data__=np.frombuffer(b"[1]", np.uint8)),
    "data that is no JSON": _npz(__data__=np.frombuffer(b"{", np.uint8)),
    "data that is no text": _npz(__data__=np.frombuffer(b"\xff\xfe", np.uint8)),
    "data nested without end": _npz(__data__=np.frombuffer(b"[" * 200_000, np.uint8)),
    "data that is no array": _npz_with_members(__data__=b"{}"),
    "a member that is no array": _npz(__data__=_TEXT)
    and _npz_with_members(__data____dot__npy=_npy_header((2,), "|u1") + b"{}", a=b"text"),
    "an array larger than its file": _npz_with_members(
        __data____dot__npy=_npy_header((2,), "|u1") + b"{}",
        a__dot__npy=_npy_header((1 << 50,)) + b"\0" * 8,
    ),
}


@pytest.mark.parametrize("content", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_what_is_no_checkpoint_is_refused_even_with_a_right_checksum(tmp_path, content):
    pickle.loads(_HOSTILE["a bare pickle"])
    assert Exploding.exploded, "the trap does not work"
    Exploding.exploded = False
    path = tmp_path / "one.ckpt"
    for body in (content, seal(content)):
        path.write_bytes(body)
        with pytest.raises(CheckpointError):
            checkpoint.read(path)
    assert not Exploding.exploded


def test_an_archive_that_would_unpack_to_more_than_it_is_is_refused(tmp_path):
    body = io.BytesIO()
    np.savez_compressed(body, __data__=_TEXT, a=np.zeros(1_000_000))
    (tmp_path / "one.ckpt").write_bytes(seal(body.getvalue()))
    assert len(body.getvalue()) < 20_000
    with pytest.raises(CheckpointError, match="would unpack to 8000"):
        checkpoint.read(tmp_path / "one.ckpt")


@settings(max_examples=150)
@given(st.data())
def test_changed_content_under_a_right_checksum_never_does_more_than_fail(path, data):
    body = bytearray(path.read_bytes()[84:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    changed = path.with_name("changed.ckpt")
    changed.write_bytes(seal(bytes(body)))
    try:
        arrays, found = checkpoint.read(changed)
    except CheckpointError:
        return
    assert isinstance(found, dict)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_the_last_three_of_a_series_are_kept(tmp_path):
    folder = tmp_path / "agent"
    for number in range(5):
        checkpoint.write_next(folder, "agent", {"a": np.full(2, number)}, {"n": number})
    names = [path.name for path in checkpoint.series(folder, "agent")]
    assert names == [f"agent-0000000{number}.ckpt" for number in (3, 4, 5)]
    assert sorted(os.listdir(folder)) == names
    arrays, data = checkpoint.read_newest(folder, "agent")
    assert data == {"n": 4}
    assert arrays["a"].tolist() == [4, 4]


def test_a_series_is_not_mixed_with_one_whose_name_begins_alike(tmp_path):
    checkpoint.write_next(tmp_path, "agent-old", {}, {"n": 1})
    assert checkpoint.series(tmp_path, "agent") == []
    assert checkpoint.read_newest(tmp_path, "agent") is None
    assert checkpoint.write_next(tmp_path, "agent", {}, {"n": 2}).name == "agent-00000001.ckpt"


def test_files_that_are_no_checkpoints_are_left_alone(tmp_path):
    for name in ("agent-1.ckpt", "agent-00000009.ckpt.bak", ".agent-00000009.ckpt.77", "notes"):
        (tmp_path / name).write_text("mine")
    for _ in range(5):
        checkpoint.write_next(tmp_path, "agent", {}, {})
    assert len(os.listdir(tmp_path)) == 7


def test_a_damaged_newest_checkpoint_is_warned_of_and_the_one_before_used(tmp_path):
    for number in range(3):
        newest = checkpoint.write_next(tmp_path, "agent", SAMPLE, {"n": number})
    newest.write_bytes(newest.read_bytes()[:200])
    with pytest.warns(RuntimeWarning, match=r"3\.ckpt is damaged.*Going on from agent-00000002"):
        arrays, data = checkpoint.read_newest(tmp_path, "agent")
    assert data == {"n": 1}
    np.testing.assert_array_equal(arrays["network/0"], SAMPLE["network/0"])
    # The next one does not take the place of the one before.
    assert checkpoint.write_next(tmp_path, "agent", {}, {}).name == "agent-00000004.ckpt"


def test_a_damaged_checkpoint_is_none_of_the_three(tmp_path):
    # Damaged again and again, there is always a whole one to go back to.
    for number in range(2):
        checkpoint.write_next(tmp_path, "agent", {}, {"n": number})
    for _ in range(5):
        newest = checkpoint.write_next(tmp_path, "agent", {}, {"n": 9})
        newest.write_bytes(b"")
        with pytest.warns(RuntimeWarning, match="it is empty"):
            found = checkpoint.read_newest(tmp_path, "agent")
        assert found[1] == {"n": 1}


def test_a_series_without_a_whole_checkpoint_is_an_error_that_names_each(tmp_path):
    for _ in range(2):
        checkpoint.write_next(tmp_path, "agent", SAMPLE, {}).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"None of the 2 checkpoints.*2\.ckpt.*1\.ckpt"):
        checkpoint.read_newest(tmp_path, "agent")


def test_an_empty_series_is_nothing(tmp_path):
    assert checkpoint.read_newest(tmp_path / "missing", "agent") is None


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_fails_leaves_the_older_file_and_nothing_else(path, monkeypatch, broken):
    before = path.read_bytes()

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.write(path, {"a": np.zeros(3)}, {"episodes": 4})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    checkpoint.write(path, {}, {"episodes": 4})
    assert checkpoint.read(path)[1] == {"episodes": 4}


def test_a_failed_write_removes_nothing_of_the_series(tmp_path, monkeypatch):
    for number in range(3):
        checkpoint.write_next(tmp_path, "agent", {}, {"n": number})
    before = sorted(os.listdir(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            checkpoint.write_next(tmp_path, "agent", {}, {"n": 3})
    assert sorted(os.listdir(tmp_path)) == before


def test_data_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError):
        checkpoint.write(tmp_path / "one.ckpt", {}, {"a": object()})
    with pytest.raises(ValueError, match="allow_pickle"):
        checkpoint.write(tmp_path / "one.ckpt", {"a": np.array([object()])}, {})
    assert os.listdir(tmp_path) == []


def test_the_data_stands_in_the_file_as_readable_json(path):
    # What a run kept can be looked at without this package.
    assert json.dumps({"episodes": 3}).encode() in path.read_bytes()
