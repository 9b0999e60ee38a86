"""Focus of all views of a series together, from the rings of their power spectra.

A spectrum less its background goes like `-cos(2 gamma)`. For every underfocus on a grid the strips and sectors of a
view, each at its own local focus, are matched with it, whatever a smooth background in each direction does: that gives
the odds of each underfocus. Views are then tied to their neighbours in tilt, as the focus keeps to a level that seldom
changes by much: a hidden chain, solved forward and backward (Rabiner 1989, Proc. IEEE 77, 257), so that a view of too
low a dose takes its focus from theirs, and says so. Astigmatism, phase plate and hand of the tilt are sought for the
whole series.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from streamtomo import geometry, jit
from streamtomo.jit import kernel
from streamtomo.lens import Microscope, phase
from streamtomo.restore.ctf import Focus, ViewFocus
from streamtomo.restore.rings import Layout, Rings, background_terms, layout, measure

Array = NDArray[np.float64]
Image = NDArray[np.float32]

STEP_UM = 0.02
"""Of the grid of underfocus."""
LEVEL_UM = 0.05
"""Mean change, from view to view, of the level that the focus keeps to ..."""
OWN_UM = 0.1
"""... and mean departure of a view from it."""
JUMP = 1e-12
"""Odds of any other change, for each step of the grid."""
TERMS = 6
"""Of the polynomial that the background is."""
LEVEL_TERMS = 3
"""Of the polynomial that a view's level is; what the level misses is the background's."""
SMOOTH = 10 ** (-np.arange(TERMS) / 2)
"""Standard deviation of each term of the background, relative to the level: the faster it turns, the less of it there
is. A background that is free to turn as fast as rings takes them, where pixels are coarse and rings few."""
OVERSAMPLED = (35 / 18) ** 2
"""Samples of a spectrum behind a Hann window are so many times more than are independent."""
LEAST_LEFT = 0.1
"""Rings of which the background takes all but this share prove nothing: they count as if it had left so much."""
DECAY = 1.5
"""Rings are sought that fade by `exp(-DECAY (k / kmax)²)`; to leave that free costs more than it gives, as ..."""
DECAYS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0)
"""... faint rings hardly tell which of these they fade by."""
LARGEST_ASTIGMATISM_UM = 0.6
LEAST_GAIN = 8.0
"""Logarithm of the odds that astigmatism or a phase plate must add to be believed."""
SEEN = 3.0
"""Rings are seen where their amplitude is so many standard deviations."""
SMOOTHED = 5
"""Rings of the spectrum over which their spread is averaged."""
WINDOW = 13
"""Rings of the spectrum in which the amplitude is looked at."""


class Search(NamedTuple):
    """Where the focus is sought."""

    lowest_um: float = 0.5
    highest_um: float = 10.0
    astigmatism: bool = False
    phase_shift: bool = False
    """Of a phase plate, 0 to 175 degrees."""
    hand: int = 0
    """1 or -1 where the hand of the tilt is known; 0: what fits better."""


class _View(NamedTuple):
    """Matches of one view with every underfocus of a table."""

    match: Array
    """`(nd, strips * SECTORS)`"""
    along: Array
    """`(SECTORS, TERMS)`: the data along the background's terms."""
    taken: Array
    """`(SECTORS, TERMS)`: share of it that is background's, by what is expected of a background and by the noise."""
    counts: Array
    """`(strips,)` tiles."""
    noise: float


class _Table(NamedTuple):
    """Models on an extended grid."""

    defocus_um: Array
    model: Array
    """`(nd, nk)`"""
    squares: Array
    """`(nd, SECTORS)`, weighed by the samples of a sector."""
    terms: Array
    """`(SECTORS, nk, TERMS)`: the background's in each direction, orthonormal as the samples of a tile weigh."""
    basis: Array
    """`(nd, SECTORS, TERMS)`: the model along them."""
    samples: Array
    """`(SECTORS,)` of a tile."""
    first: int
    """Where the grid that is searched begins ..."""
    steps: int
    """... and how many steps it has."""


def estimate_focus(
    stack: Image,
    tilts_deg: Sequence[float],
    pixel_A: float,
    microscope: Microscope,
    search: Search = Search(),  # noqa: B008 - a tuple, never changed
) -> Focus:
    """The focus of aligned views `(n, ny, nx)` in ascending tilt, the tilt axis at their centre along y.

    `tilts_deg` are those of the specimen's plane: add the pre-tilt of a lamella. Raises ValueError where pixels are too
    coarse for rings.
    """
    of = layout((stack.shape[1], stack.shape[2]), pixel_A)
    rings = jit.each(lambda view: measure(view, of, LEVEL_TERMS), list(stack))
    return fit_focus(rings, of, tilts_deg, microscope, search)


def fit_focus(
    rings: Sequence[Rings], of: Layout, tilts_deg: Sequence[float], microscope: Microscope, search: Search
) -> Focus:
    """The same from measured rings."""
    rings, of = _weighed(rings, of)
    hands = (search.hand,) if search.hand else (1, -1)
    fit, scores = _best_fit(rings, of, _slopes(of, tilts_deg), microscope, search)
    hand = max(hands, key=lambda one: scores[one])
    lens = _Lens(hand, 0.0, 0.0)
    if search.astigmatism:
        lens = fit.find_astigmatism(lens)
    chances = fit.chances(lens)
    return Focus(
        views=tuple(fit.view_focus(i, row, lens) for i, row in enumerate(chances)),
        astigmatism_um=round(float(np.hypot(lens.along, lens.across)), 4),
        astigmatism_deg=round(float(np.degrees(np.arctan2(lens.across, lens.along)) / 2), 2),
        phase_shift_deg=fit.plate,
        hand=hand,
        hand_odds=round(scores[hand] - scores[-hand], 2),
        snr=fit.snr(chances, lens),
    )


def _slopes(of: Layout, tilts_deg: Sequence[float]) -> Array:
    """Underfocus of each strip less that at the axis, µm, `(n, strips)`."""
    return np.asarray(geometry.tilt_terms(tilts_deg).tan[:, None] * of.x_px * of.pixel_A / 1e4)


def _weighed(rings: Sequence[Rings], of: Layout) -> tuple[list[Rings], Layout]:
    """Weights divided by the spread that spectra of the series really have at each frequency.

    Where structure shows more than noise, at the lowest frequencies above all, a sample says less.
    """
    spread = np.median([(one.weights * one.power**2).mean(axis=(0, 1)) for one in rings], axis=0)
    spread = uniform_filter1d(spread, SMOOTHED, mode="nearest") / max(1e-30, float(spread.min()))
    weighed = [one._replace(weights=one.weights / spread) for one in rings]
    return weighed, of._replace(samples=of.samples / spread)


def _best_fit(
    rings: Sequence[Rings], of: Layout, slopes: Array, microscope: Microscope, search: Search
) -> tuple[_Fit, dict[int, float]]:
    """The phase plate with the best odds, and the logarithm of the odds of either hand."""

    def fitted(plate: float) -> tuple[_Fit, dict[int, float]]:
        fit = _Fit(rings, of, slopes, microscope, search, plate)
        return fit, {hand: chain(fit.odds(_Lens(hand, 0.0, 0.0)))[1] for hand in (1, -1)}

    def score(found: tuple[_Fit, dict[int, float]]) -> float:
        return found[1][search.hand] if search.hand else max(found[1].values())

    best = fitted(0.0)
    if not search.phase_shift:
        return best
    with_plate = max((fitted(float(plate)) for plate in range(5, 180, 5)), key=score)
    return with_plate if score(with_plate) > score(best) + LEAST_GAIN else best


class _Lens(NamedTuple):
    """What all views have in common."""

    hand: int
    along: float
    """Twofold underfocus, µm: cosine part ..."""
    across: float
    """... and sine part."""


class _Fit:
    """Everything that depends on the phase plate, made once."""

    def __init__(
        self, rings: Sequence[Rings], of: Layout, slopes: Array, microscope: Microscope, search: Search, plate: float
    ) -> None:
        self.plate = plate
        self._rings, self._of, self._slopes = rings, of, slopes
        self._table = _table(of, slopes, microscope, search, plate)
        self._views = [_view(one, self._table) for one in rings]

    def odds(self, lens: _Lens) -> Array:
        """Logarithm of the odds `(n, nd)` of every underfocus of the grid."""
        table = self._table
        return np.array([self._odds(i, lens, table.first, table.steps) for i in range(len(self._views))])

    def _odds(self, index: int, lens: _Lens, first: int, count: int) -> Array:
        view, offsets = self._views[index], self._offsets(index, lens)
        where = np.int64(first), np.int64(count)
        found, table = np.zeros((2, count)), self._table
        _match(view.match, table.squares, table.basis, view.along, view.taken, view.counts, offsets, *where, found)
        return np.asarray(0.5 * np.maximum(found[0], 0) ** 2 / np.maximum(found[1], 1e-30) / view.noise)

    def _offsets(self, index: int, lens: _Lens) -> NDArray[np.int64]:
        """Steps of the grid from the view's underfocus to that of each strip and sector."""
        twice = 2 * self._of.directions
        bent = lens.along * np.cos(twice) + lens.across * np.sin(twice)
        return np.asarray(np.rint((lens.hand * self._slopes[index][:, None] + bent) / STEP_UM), np.int64)

    def chances(self, lens: _Lens) -> Array:
        """Probabilities `(n, nd)` of every underfocus, neighbours taken into account."""
        return chain(self.odds(lens))[0]

    def find_astigmatism(self, lens: _Lens) -> _Lens:
        """With the twofold underfocus: first on a coarse grid, then on ever finer ones about the best."""
        table, centre = self._table, np.zeros(2)
        peaks = self.chances(lens).argmax(axis=1)
        spans = [slice(max(0, p - 15), min(table.steps, p + 16)) for p in peaks]

        def gain(parts: Array) -> float:
            tried = _Lens(lens.hand, float(parts[0]), float(parts[1]))
            odds = (self._odds(i, tried, table.first + s.start, s.stop - s.start) for i, s in enumerate(spans))
            return float(sum(row.max() for row in odds))

        without = gain(centre)
        for reach, step in ((LARGEST_ASTIGMATISM_UM, 0.12), (0.12, 0.04), (0.02, 0.01)):
            centre = _best_near(gain, centre, reach, step)
        return _Lens(lens.hand, *map(float, centre)) if gain(centre) > without + LEAST_GAIN else lens

    def view_focus(self, index: int, chances: Array, lens: _Lens) -> ViewFocus:
        """What the chances of one view say."""
        grid = self._table.defocus_um[self._table.first : self._table.first + self._table.steps]
        peak, mean = int(chances.argmax()), float((grid * chances).sum())
        defocus = float(np.interp(0.5, np.cumsum(chances) - chances / 2, grid))
        return ViewFocus(
            defocus_um=round(defocus, 4),
            sd_um=round(float(np.sqrt(max(0.0, ((grid - mean) ** 2 * chances).sum()))), 4),
            confidence=round(float(chances[np.abs(grid - defocus) <= max(0.1, 0.02 * defocus)].sum()), 4),
            resolution_A=self._resolution(index, peak, lens),
        )

    def _rows(self, index: int, peak: int, lens: _Lens) -> tuple[Array, Array]:
        """Sums over strips and sectors, at an underfocus: data times model, and model squared, `(nk,)` each."""
        offsets = self._offsets(index, lens) + self._table.first + peak
        model, rings = self._table.model[offsets], self._rings[index]
        # What the background takes of the data it would take of the model, too: both are fitted together.
        total = np.maximum(rings.weights.sum(axis=0), 1e-9)
        mean, ringing = ((rings.weights * part).sum(axis=0) / total for part in (rings.power, model))
        rest, design = np.empty_like(rings.power), background_terms(self._of.k, TERMS)
        for q, root in enumerate(np.sqrt(total)):
            both = np.column_stack([design, ringing[q]]) * root[:, None]
            rest[:, q] = rings.power[:, q] - design @ np.linalg.lstsq(both, mean[q] * root, rcond=None)[0][:-1]
        return (rings.weights * rest * model).sum(axis=(0, 1)), (rings.weights * model**2).sum(axis=(0, 1))

    def _resolution(self, index: int, peak: int, lens: _Lens) -> float | None:
        """The finest detail, Å, at which rings stand out, as they do at half of what is coarser at least."""
        match, size = (np.convolve(part, np.ones(WINDOW), "valid") for part in self._rows(index, peak, lens))
        seen = match / np.sqrt(np.maximum(size * self._views[index].noise, 1e-30)) > SEEN
        share = np.cumsum(seen) / np.arange(1, len(seen) + 1)
        finest = np.flatnonzero(seen & (share >= 0.5))
        return round(float(1 / self._of.k[finest[-1] + WINDOW // 2]), 2) if len(finest) else None

    def snr(self, chances: Array, lens: _Lens) -> tuple[float, float]:
        """Signal over noise at frequency 0 and its decay in Å², from the rings' amplitude a: 2 a / (1 - a)."""
        parts = [self._rows(i, int(row.argmax()), lens) for i, row in enumerate(chances)]
        match, size = (sum(part[i] for part in parts) for i in (0, 1))
        reduced = (self._of.k / self._of.k[-1]) ** 2

        def fitted(decay: float) -> tuple[float, float]:
            """What rings that fade so explain, and their amplitude."""
            fade = np.exp((DECAY - decay) * reduced)
            along, whole = float((match * fade).sum()), max(1e-30, float((size * fade**2).sum()))
            return max(0.0, along) ** 2 / whole, along / whole

        decay = max(DECAYS, key=lambda one: fitted(one)[0])
        amplitude = min(0.95, max(0.0, fitted(decay)[1]))
        return round(2 * amplitude / (1 - amplitude), 5), round(decay / float(self._of.k[-1]) ** 2, 2)


def _best_near(gain: Callable[[Array], float], centre: Array, reach: float, step: float) -> Array:
    """The best of a square grid about `centre`."""
    steps = np.arange(-reach, reach + step / 2, step)
    tried: list[Array] = [centre + np.array([a, b]) for a in steps for b in steps]
    return tried[int(np.argmax(jit.each(gain, tried)))]


def _table(of: Layout, slopes: Array, microscope: Microscope, search: Search, plate: float) -> _Table:
    beyond = float(np.abs(slopes).max()) + LARGEST_ASTIGMATISM_UM * 2
    first = int(np.ceil(beyond / STEP_UM)) + 2
    count = round((search.highest_um - search.lowest_um) / STEP_UM) + 1
    defocus: Array = search.lowest_um + STEP_UM * (np.arange(count + 2.0 * first) - first)
    fade = np.exp(-DECAY * (of.k / of.k[-1]) ** 2)
    model = -np.cos(2 * phase(of.k, defocus[:, None], microscope, plate)) * fade
    root = np.sqrt(of.samples)[:, :, None]
    terms = np.linalg.qr(background_terms(of.k, TERMS) * root)[0] / root
    weighed = (of.samples[:, :, None] * terms).transpose(1, 0, 2).reshape(len(of.k), -1)
    basis = (model @ weighed).reshape(len(model), len(of.samples), TERMS)
    return _Table(defocus, model, model**2 @ of.samples.T, terms, basis, of.samples.sum(axis=1), first, count)


def _view(rings: Rings, table: _Table) -> _View:
    """The background's terms are the same in all views but for the number of tiles behind them."""
    weighed, tiles = rings.weights * rings.power, rings.tiles
    along = np.einsum("qk,qkt->qt", weighed.sum(axis=0), table.terms) / np.sqrt(max(1.0, tiles.sum()))
    used = max(1, int((rings.weights > 0).sum()) - along.size)
    noise = max(1e-12, float((weighed * rings.power).sum() - (along**2).sum()) / used) * OVERSAMPLED
    match = table.model @ weighed.reshape(-1, weighed.shape[2]).T
    samples = table.samples[:, None] * tiles.sum()
    taken = samples * SMOOTH**2 / (samples * SMOOTH**2 + noise)
    return _View(np.ascontiguousarray(match), along, taken, tiles, noise)


def chain(odds: Array) -> tuple[Array, float]:
    """Probabilities `(n, nd)` from the logarithms of the odds of each view, and the logarithm of the odds of it all.

    The hidden state is a level that changes little from view to view; each view departs from it on its own.
    """
    own, change = _near(odds.shape[1], OWN_UM), _near(odds.shape[1], LEVEL_UM)
    highest = odds.max(axis=1, keepdims=True)
    likely = np.exp(odds - highest)
    seen, total = likely @ own, float(highest.sum())
    level, before = np.empty_like(likely), np.full(odds.shape[1], 1 / odds.shape[1])
    for i, row in enumerate(seen):
        level[i] = before
        sure = float((row * before).sum())
        total += float(np.log(sure))
        before = (row * before / sure) @ change
    after = np.ones(odds.shape[1])
    for i in range(len(seen) - 1, -1, -1):
        level[i] *= after
        after = change @ (seen[i] * after)
        after /= after.max()
    chances = likely * (level @ own)
    return chances / chances.sum(axis=1, keepdims=True), total


@lru_cache(maxsize=4)
def _near(count: int, scale_um: float) -> Array:
    """Chances `(count, count)` of each step of the grid, seen from each other one."""
    steps = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) * STEP_UM
    return np.asarray(np.exp(-steps / scale_um) * np.tanh(STEP_UM / scale_um / 2) + JUMP)


@kernel
def _match(
    match: Any,
    squares: Any,
    basis: Any,
    along: Any,
    taken: Any,
    counts: Any,
    offsets: Any,
    first: Any,
    count: Any,
    found: Any,
) -> None:
    """For `count` steps of the grid from `first` on: data times model, and model squared, less what the background has.

    `offsets` `(strips, sectors)`; `found` `(2, count)`.
    """
    sectors, terms, total = offsets.shape[1], along.shape[1], max(1.0, counts.sum())
    shared = np.empty((sectors, terms))
    for i in range(count):
        data, model = 0.0, 0.0
        shared[:] = 0
        for s in range(offsets.shape[0]):
            for q in range(sectors):
                at = first + i + offsets[s, q]
                data += match[at, s * sectors + q]
                model += counts[s] * squares[at, q]
                for t in range(terms):
                    shared[q, t] += counts[s] * basis[at, q, t]
        least = LEAST_LEFT * model
        for q in range(sectors):
            for t in range(terms):
                data -= taken[q, t] * shared[q, t] * along[q, t] / np.sqrt(total)
                model -= taken[q, t] * shared[q, t] * shared[q, t] / total
        found[0, i], found[1, i] = data, max(model, least)
