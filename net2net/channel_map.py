"""Channel maps: the old channel that each new channel copies, and the share it passes on.

A map from n old to q new channels is g: {0..q-1} → {0..n-1} with shares s, such that for every
old channel k the shares of its copies add up to one: Σ_{j: g(j)=k} s_j = 1. Whatever makes the
channels gathers its weights by g; whatever sums over them gathers by g and multiplies by s, so
that the sum keeps its value (Net2Net, Chen, Goodfellow and Shlens 2016, eq. 2, where
s_j = 1/|g⁻¹(g(j))|).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Structure:
    """Form that a map needs to pass a layer that treats channels in groups.

    Args:
        blocks: The channels are this many blocks, and every block is mapped alike. Defaults to 1.
        runs: Channels are copied only in whole runs of this many neighbours. Defaults to 1.
        equal: Every channel has the same number of copies. Defaults to False.
        edges: Copies stay on their channel's side of these places among the old channels.
            Defaults to none.
    """

    blocks: int = 1
    runs: int = 1
    equal: bool = False
    edges: tuple[int, ...] = ()

    def combine(self, other: Structure) -> Structure:
        """Return the loosest structure that satisfies both."""
        return Structure(
            lcm(self.blocks, other.blocks),
            lcm(self.runs, other.runs),
            self.equal or other.equal,
            tuple(sorted({*self.edges, *other.edges})),
        )

    def nest(self, other: Structure) -> Structure:
        """Return the structure whose every block, and every run, has the other one's."""
        return Structure(
            self.blocks * other.blocks,
            self.runs * other.runs,
            self.equal or other.equal,
            tuple(sorted({*self.edges, *other.edges})),
        )

    def step(self, size: int) -> int | None:
        """Return the number of channels by which `size` can grow at a time, None if it cannot."""
        if size % (self.blocks * self.runs):
            return None
        return size if self.equal else self.blocks * self.runs


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """A map of old channels onto new ones, with the share that every copy passes on.

    Args:
        source: int64 [q], the old channel that each new channel copies.
        share: float64 [q], the factor on each new channel's outgoing weights.
        fresh: bool [q], True where a channel is new, False where it is the old one itself.
        old_size: n, the number of old channels.
        offset: Place of the first of these channels among those the map was drawn for. Defaults
            to None: they are no plain section of those.

    Example:
        >>> import numpy as np
        >>> one = ChannelMap(np.array([0, 1, 0]), np.array([0.3, 1.0, 0.7]),
        ...                  np.array([False, False, True]), 2)
        >>> one.tile(2).source.tolist()
        [0, 1, 0, 2, 3, 2]
        >>> one.repeat(2).source.tolist()
        [0, 1, 2, 3, 0, 1]
    """

    source: NDArray[np.int64]
    share: NDArray[np.float64]
    fresh: NDArray[np.bool_]
    old_size: int
    offset: int | None = None

    @property
    def new_size(self) -> int:
        """The number of new channels, q."""
        return len(self.source)

    @classmethod
    def identity(cls, size: int) -> ChannelMap:
        """Return the map that changes nothing."""
        return cls(np.arange(size), np.ones(size), np.zeros(size, bool), size)

    def equals(self, other: ChannelMap) -> bool:
        """Return whether both maps are equal."""
        return (
            self.old_size == other.old_size
            and np.array_equal(self.source, other.source)
            and np.array_equal(self.share, other.share)
        )

    def then(self, later: ChannelMap) -> ChannelMap:
        """Return the one map that does this and then `later`."""
        if later.old_size != self.new_size:
            raise AssertionError("maps follow one another only where their sizes meet")
        return ChannelMap(
            self.source[later.source],
            self.share[later.source] * later.share,
            self.fresh[later.source] | later.fresh,
            self.old_size,
        )

    def tile(self, times: int) -> ChannelMap:
        """Return the map of `times` blocks of these channels, one after another."""
        offset = np.repeat(np.arange(times) * self.old_size, self.new_size)
        return ChannelMap(
            np.tile(self.source, times) + offset,
            np.tile(self.share, times),
            np.tile(self.fresh, times),
            self.old_size * times,
        )

    def repeat(self, runs: int) -> ChannelMap:
        """Return the map of channels that each became a run of `runs` neighbours."""
        within = np.tile(np.arange(runs), self.new_size)
        return ChannelMap(
            np.repeat(self.source * runs, runs) + within,
            np.repeat(self.share, runs),
            np.repeat(self.fresh, runs),
            self.old_size * runs,
        )

    def untile(self, times: int) -> ChannelMap | None:
        """Return the map of one block where this is `times` equal blocks, else None."""
        if self.old_size % times or self.new_size % times:
            return None
        size = self.new_size // times
        block = self._part(slice(0, size), 0, self.old_size // times)
        return block if block is not None and block.tile(times).equals(self) else None

    def unrepeat(self, runs: int) -> ChannelMap | None:
        """Return the map of whole runs where this moves only those, else None."""
        if self.old_size % runs or self.new_size % runs:
            return None
        every = slice(None, None, runs)
        whole = ChannelMap(
            self.source[every] // runs, self.share[every], self.fresh[every], self.old_size // runs
        )
        return whole if whole.repeat(runs).equals(self) else None

    def split(self, sizes: Sequence[int]) -> list[ChannelMap] | None:
        """Return one map for each neighbouring block of old channels, None where copies mix."""
        edges = np.cumsum([0, *sizes])
        block_of = np.searchsorted(edges, self.source, side="right") - 1
        if np.any(np.diff(block_of) < 0):
            return None
        parts = []
        for block, size in enumerate(sizes):
            where = np.flatnonzero(block_of == block)
            part = self._part(slice(where[0], where[-1] + 1), int(edges[block]), size)
            if part is None:
                return None
            parts.append(part)
        return parts

    def satisfies(self, structure: Structure) -> bool:
        """Return whether this map has the structure."""
        block = self.untile(structure.blocks)
        if block is None or block.unrepeat(structure.runs) is None:
            return False
        side = np.searchsorted(structure.edges, self.source, side="right")
        if np.any(np.diff(side) < 0):
            return False
        counts = np.bincount(self.source, minlength=self.old_size)
        return not structure.equal or bool(np.all(counts == counts[0]))

    def _part(self, where: slice, offset: int, size: int) -> ChannelMap | None:
        source = self.source[where] - offset
        if len(source) == 0 or source.min() < 0 or source.max() >= size:
            return None
        start = None if self.offset is None else self.offset + offset
        return ChannelMap(source, self.share[where], self.fresh[where], size, start)


def concatenate_maps(maps: Sequence[ChannelMap]) -> ChannelMap:
    """Return the map of neighbouring blocks of channels, given one map a block.

    Example:
        >>> both = concatenate_maps([ChannelMap.identity(2), ChannelMap.identity(1)])
        >>> both.source.tolist()
        [0, 1, 2]
    """
    offsets = np.cumsum([0] + [one.old_size for one in maps])
    return ChannelMap(
        np.concatenate([one.source + offset for one, offset in zip(maps, offsets, strict=False)]),
        np.concatenate([one.share for one in maps]),
        np.concatenate([one.fresh for one in maps]),
        int(offsets[-1]),
    )


def draw_map(
    old_size: int,
    new_size: int,
    structure: Structure,
    generator: np.random.Generator,
    *,
    concentration: float = 10.0,
) -> ChannelMap:
    """Return a random map: the channels that are copied, and the shares of their copies.

    The old channels come first, the copies after them, drawn uniformly with replacement (the
    Net2Net paper's eq. 1). Shares of one channel's copies are drawn from a symmetric Dirichlet
    distribution, not the paper's equal ones: the sum is as exact, and the copies then have
    different gradients, so that no noise is needed to tell them apart.

    Args:
        old_size: n, the number of old channels.
        new_size: q, the number of new channels.
        structure: The structure that the map must have.
        generator: Source of the choices.
        concentration: Dirichlet parameter; the larger, the more equal the shares. Defaults to 10.

    Example:
        >>> import numpy as np
        >>> one = draw_map(2, 5, Structure(), np.random.default_rng(0))
        >>> one.source[:2].tolist(), np.round(np.bincount(one.source, one.share), 12).tolist()
        ([0, 1], [1.0, 1.0])
    """
    unit = structure.blocks * structure.runs
    size, target = old_size // unit, new_size // unit
    if structure.equal:
        source = np.tile(np.arange(size), target // size)
    else:
        source = np.concatenate([np.arange(size), generator.integers(size, size=target - size)])
    # A Dirichlet draw is a set of gamma draws over its sum; a channel with one copy keeps 1.
    weight = generator.gamma(concentration, size=target)
    share = weight / np.bincount(source, weight, minlength=size)[source]
    share[np.bincount(source, minlength=size)[source] == 1] = 1.0
    one = ChannelMap(source, share, np.arange(target) >= size, size)
    one = one.repeat(structure.runs).tile(structure.blocks)
    side = np.searchsorted(structure.edges, one.source, side="right")
    order = np.argsort(side, kind="stable")
    return ChannelMap(one.source[order], one.share[order], one.fresh[order], old_size, offset=0)
