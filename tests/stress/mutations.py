"""Mutations of our files: at random, or by someone who knows the format."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

MAGIC = b"keras_qan 1 sha256 "
HEADER = len(MAGIC) + 65
DATA = "__data__"


def seal(body: bytes) -> bytes:
    """A file whose checksum is right, whatever it holds."""
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


# Of bytes: bytes → bytes.


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut_short(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def overwrite(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    start = rng.randrange(len(changed))
    length = rng.randint(1, 64)
    changed[start : start + length] = rng.choice([b"\0" * length, rng.randbytes(length)])
    return bytes(changed)


def splice(content: bytes, rng: random.Random) -> bytes:
    one, other = sorted(rng.randrange(len(content)) for _ in range(2))
    piece = content[one : min(other, one + 4096)]
    place = rng.randrange(len(content))
    return content[:place] + piece + content[place + len(piece) * rng.randint(0, 1) :]


def lengthen(content: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.randint(1, 200))


BYTES: list[Callable[[bytes, random.Random], bytes]] = [
    flip_bits,
    cut_short,
    overwrite,
    splice,
    lengthen,
]


# Of the archive within: bytes → bytes.


def change_zip_field(body: bytes, rng: random.Random) -> bytes:
    """Another number in a header: sizes, offsets, methods, counts."""
    changed = bytearray(body)
    sign = rng.choice([b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"])
    places = [n for n in range(len(body) - 46) if body.startswith(sign, n)]
    if not places:
        places = [max(body.rfind(sign), 0)]
    place = rng.choice(places) + rng.randint(4, 44 if sign != b"PK\x05\x06" else 20)
    number = rng.choice([0, 1, 8, 9, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)])
    value = struct.pack("<I", number)[: rng.choice([1, 2, 4])]
    changed[place : place + len(value)] = value
    return bytes(changed[: len(body)])


def compress(body: bytes, rng: random.Random) -> bytes:
    """A bomb: zeros that take no place."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])) as z:
        z.writestr(f"{DATA}.npy", npy(np.frombuffer(b"{}", np.uint8)))
        z.writestr("a.npy", npy(np.zeros(rng.randint(1, 3_000_000))))
    return made.getvalue()


def many_members(body: bytes, rng: random.Random) -> bytes:
    """A table of contents that is all there is."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number in range(rng.randint(1_000, 8_000)):
            archive.writestr(str(number), b"")
    return made.getvalue()


def overlap(body: bytes, rng: random.Random) -> bytes:
    """Entries that all mean the same bytes."""
    end = body.rfind(b"PK\x05\x06")
    size, offset = struct.unpack("<II", body[end + 12 : end + 20])
    table = body[offset : offset + size]
    times = rng.randint(2, 200)
    new_end = bytearray(body[end:])
    count = struct.unpack("<H", body[end + 10 : end + 12])[0] * times & 0xFFFF
    struct.pack_into("<HHI", new_end, 8, count, count, len(table) * times)
    return body[:offset] + table * times + bytes(new_end)


def hostile_header(body: bytes, rng: random.Random) -> bytes:
    """An array whose header promises what is not there, or what is no number."""
    shapes: list[Any] = [
        (1 << 50,),
        (1 << 31, 1 << 31, 1 << 31),
        (-4,),
        (0,),
        (),
        (2.5,),
        ("a",),
        (True,),
        (10**400,),
        [3],
        None,
    ]
    types = ["<f4", "|O", "<U1000000000", "|V0", "|S0", [("a", "|O")], "x", 7, "<m8", "|u1", "<f8"]
    header = {
        "descr": rng.choice(types),
        "fortran_order": rng.choice([False, True, 3]),
        "shape": rng.choice(shapes),
    }
    if rng.random() < 0.1:
        header["more"] = "__import__('os').system('true')"
    text = repr(header).encode() + b" " * rng.choice([3, 100, 70_000]) + b"\n"
    version = rng.choice([(1, 0), (2, 0), (3, 0), (9, 9)])
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text) & 0xFFFF)
    member = b"\x93NUMPY" + bytes(version) + length + text + rng.randbytes(rng.randint(0, 64))
    return members({DATA: npy(np.frombuffer(b"{}", np.uint8)), "a": member})


def with_pickle(body: bytes, rng: random.Random) -> bytes:
    """Something that would run if it were unpickled."""
    attack = pickle.dumps(Attack())
    if rng.random() < 0.5:
        return attack
    name = rng.choice([DATA, "network/0"])
    whole = npy(np.array([Attack()], object)) if rng.random() < 0.5 else attack
    return members({DATA: npy(np.frombuffer(b"{}", np.uint8)), name: whole})


class Attack:
    """Runs a program when it is unpickled."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("true",)


BODY: list[Callable[[bytes, random.Random], bytes]] = [
    *BYTES,
    change_zip_field,
    compress,
    many_members,
    overlap,
    hostile_header,
    with_pickle,
]


def npy(array: np.ndarray) -> bytes:
    """An array as a member of an archive."""
    made = io.BytesIO()
    np.lib.format.write_array(made, array, allow_pickle=True)
    return made.getvalue()


def members(contents: dict[str, bytes]) -> bytes:
    """An archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"{name}.npy", content)
    return made.getvalue()


# Of what it means: (arrays, data) → the same.

WEIRD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "shipped",
    "\ud800",
    [],
    {},
    [[[[]]]],
    {"class": "os.system", "command": "true"},
    {"class": "Random", "seed": "x"},
    {"class": "Hold", "more": 1},
    {"class": "DQN", "hidden": [10**9]},
    {"class": "Restart", "rate": [1]},
    {"class": ["Hold"]},
    {"class": "Follow", "schedule": {"class": "Hold"}},
    [{"class": "Hold"}] * 50,
]


def change_data(data: Any, rng: random.Random) -> Any:
    """Another value, or none, somewhere in JSON data."""
    data = json.loads(json.dumps(data))
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            places.append((value, key))
            if isinstance(value[key], dict | list):
                visit(value[key])

    visit(data)
    for _ in range(rng.randint(1, 3)):
        where, key = rng.choice(places)
        if isinstance(where, dict) and rng.random() < 0.2:
            where.pop(key, None)
        elif isinstance(where, dict) or key < len(where):
            where[key] = rng.choice(WEIRD)
    return data


def data_text(data: Any, rng: random.Random) -> bytes:
    """Data as text that a parser may choke on."""
    depth = rng.choice([10, 990, 100_000])
    count = rng.randint(10, 60_000)
    return rng.choice(
        [
            b"[" * depth,
            b"[" * depth + b"]" * depth,
            b'{"a":' * depth + b"1" + b"}" * depth,
            b"[" + b"[]," * count + b"[]]",
            b'{"a":[' + b"{}," * count + b"{}]}",
            b'{"format":' + b"9" * count + b"}",
            b'{"episodes": 1e99999, "steps": -Infinity}',
            b"\xff\xfe" + json.dumps(data).encode(),
            b"\xef\xbb\xbf" + json.dumps(data).encode(),
            b'{"format": "\\ud800"}',
            b"",
        ]
    )


def change_arrays(arrays: dict[str, np.ndarray], rng: random.Random) -> dict[str, np.ndarray]:
    """Another shape, type or value in some array, or one less, or one more."""
    changed = dict(arrays)
    name = rng.choice(sorted(changed))
    array = np.array(changed[name])
    kind = rng.randrange(6)
    if kind == 0:
        changed[name] = array.astype(rng.choice([np.int8, np.float64, np.bool_, np.complex64]))
    elif kind == 1:
        changed[name] = np.full_like(array, rng.choice([np.nan, np.inf]), np.float32)
    elif kind == 2:
        changed[name] = rng.choice([array[..., None], array.reshape(-1)[:1], np.zeros((0, 3))])
    elif kind == 3:
        del changed[name]
    elif kind == 4:
        changed[rng.choice(["more", "../../etc", "a" * 300, "é"])] = np.zeros(3)
    else:
        changed[name] = np.asfortranarray(array.T)
    return changed


def lines(text: bytes, rng: random.Random) -> bytes:
    """JSON lines that were changed: as bytes, or record by record."""
    if rng.random() < 0.6:
        return rng.choice(BYTES)(text, rng)
    rows = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(rows))
        rows[place] = rng.choice(
            [
                json.dumps(change_data(json.loads(text.splitlines()[place % 3]), rng)).encode(),
                data_text({}, rng),
                b"null",
                b"3",
                b'"episode"',
            ]
        )
    return b"\n".join(rows) + b"\n"
