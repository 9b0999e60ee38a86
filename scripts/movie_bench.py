"""Movies with known drift: how well it is found, how long the sum takes."""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from streamtomo import jit
from streamtomo.config import Movies, Settings
from streamtomo.correct import drift, frames
from streamtomo.exposure import ExposureReader
from streamtomo.model import RawImage
from streamtomo.simulate.references import write_references
from streamtomo.simulate.series import Motion, Plan, Series

PIXEL_A = 2.17
CASES = ((0.05, 100), (0.1, 40), (0.3, 10), (0.3, 40), (1.4, 10))
"""Electrons a pixel and frame, frames."""


def movie(size: int, electrons: float, count: int, travel_px: float, seed: int) -> tuple[np.ndarray, Series]:
    dose = electrons * count / PIXEL_A**2
    plan = Plan(
        (0.0,), (size, size), pixel_size_A=PIXEL_A, dose_e_A2=dose, frames=count, gain_spread=0.05, dead_columns=2,
        dtype="uint8", seed=seed, motion=Motion(frame_drift_px=travel_px),
    )  # fmt: skip
    series = Series(plan)
    return series.expose(0).image, series


def errors(size: int, seeds: int) -> None:
    print("e/px/frame  frames  drift px   error px RMS, frames against their true positions")
    for electrons, count in CASES:
        for travel_px in (0.0, 2.0, 10.0):
            found = [error(*movie(size, electrons, count, travel_px, seed)) for seed in range(1, seeds + 1)]
            print(
                f"{electrons:10.2f}{count:8d}{travel_px:10.0f}   {' '.join(f'{one:.2f}' for one in found)}", flush=True
            )


def error(images: np.ndarray, series: Series) -> float:
    reference = series.camera.gain_reference()
    binning = drift.drift_binning(*images.shape[:0:-1])
    spectra = [drift.spectrum(frames.block_mean(image, reference, binning)) for image in images]
    found = drift.find_drift(spectra, (images.shape[1] // binning, images.shape[2] // binning))
    path = np.zeros((len(images), 2)) if found is None else found.path * binning
    return float(np.sqrt(((path - series.frame_shifts(0)) ** 2).sum(axis=1).mean()))


def times(size: int, count: int, runs: int) -> None:
    images, series = movie(size, 0.25, count, 8.0, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_references(folder, series.camera)
        print(f"\nsum of {count} frames of {size} x {size}, with gain and defects, minimum of {runs}, s")
        for compression in (None, "zstd", "lzw"):
            path = folder / f"{compression}.tif"
            tifffile.imwrite(path, images[:, ::-1], photometric="minisblack", compression=compression, metadata=None)
            image = RawImage(series="a", path=str(path), frames=count, nx=size, ny=size, angle_deg=0.0)
            row = [fastest(image, folder, choice, runs) for choice in ("off", "on")]
            print(f"{compression or 'plain':>6}   without drift {row[0]:.2f}   with drift {row[1]:.2f}", flush=True)


def fastest(image: RawImage, folder: Path, choice: str, runs: int) -> float:
    movies = Movies(gain=str(folder / "gain.mrc"), defects=str(folder / "defects.txt"), drift=choice)
    reader = ExposureReader(Settings(movies=movies))
    taken = []
    for _ in range(runs + 1):  # the first one reads the references
        start = time.perf_counter()
        reader.read(image)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def main() -> None:
    """Two tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=0, help="movies of each kind whose drift is compared with truth")
    args = parser.parse_args()
    jit.use_threads(2)
    if args.seeds:
        errors(args.size, args.seeds)
    times(args.size, args.frames, args.runs)


if __name__ == "__main__":
    main()
