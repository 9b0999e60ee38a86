"""Loops over Fourier components: a reference seen from anywhere, poses refined, particles summed.

Everywhere `k` counts cycles per box (x, y, z), whatever the box's sampling; a padded spectrum is that of a box set into
one twice as wide, `(2n, 2n, n + 1)`, so that component k lies at 2k. Rotations take reference to tomogram.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.jit import kernel, parallel_kernel, prange

PAD = 2
ANGLES = 1440
"""Directions of half a turn at which a wedge is tabulated."""
DAMPING = 1e-3
"""Of the diagonal, added at the start of a refinement."""


@kernel
def look(spectrum: Any, x: Any, y: Any, z: Any, slope: Any) -> Any:
    """Value of a padded spectrum at component x, y, z by linear interpolation; `slope` (3,) gets its gradient."""
    p = spectrum.shape[0]
    u, v, w = PAD * x, PAD * y, PAD * z
    other = u < 0
    if other:
        u, v, w = -u, -v, -w
    i, j, k = int(np.floor(u)), int(np.floor(v)), int(np.floor(w))
    a, b, c = np.float32(u - i), np.float32(v - j), np.float32(w - k)
    j0, j1 = j % p, (j + 1) % p
    k0, k1 = k % p, (k + 1) % p
    v000, v001 = spectrum[k0, j0, i], spectrum[k0, j0, i + 1]
    v010, v011 = spectrum[k0, j1, i], spectrum[k0, j1, i + 1]
    v100, v101 = spectrum[k1, j0, i], spectrum[k1, j0, i + 1]
    v110, v111 = spectrum[k1, j1, i], spectrum[k1, j1, i + 1]
    d00, d01, d10, d11 = v001 - v000, v011 - v010, v101 - v100, v111 - v110
    e00, e01 = v000 + a * d00, v010 + a * d01
    e10, e11 = v100 + a * d10, v110 + a * d11
    low, high = e00 + b * (e01 - e00), e10 + b * (e11 - e10)
    value = low + c * (high - low)
    dx_low, dx_high = d00 + b * (d01 - d00), d10 + b * (d11 - d10)
    slope[0] = PAD * (dx_low + c * (dx_high - dx_low))
    slope[1] = PAD * ((e01 - e00) + c * ((e11 - e10) - (e01 - e00)))
    slope[2] = PAD * (high - low)
    if other:
        value = np.conj(value)
        for n in range(3):
            slope[n] = -np.conj(slope[n])
    return value


@parallel_kernel
def seen_from(spectrum: Any, k: Any, turns: Any, out: Any) -> None:
    """`out[r, m]`: the reference turned by rotation r at component m. `k` float32 `(m, 3)`, `out` complex64."""
    for r in prange(turns.shape[0]):
        t, slope = turns[r], np.empty(3, np.complex64)
        for m in range(k.shape[0]):
            x, y, z = k[m, 0], k[m, 1], k[m, 2]
            out[r, m] = look(
                spectrum,
                t[0, 0] * x + t[1, 0] * y + t[2, 0] * z,
                t[0, 1] * x + t[1, 1] * y + t[2, 1] * z,
                t[0, 2] * x + t[1, 2] * y + t[2, 2] * z,
                slope,
            )


@kernel
def turned_to(turn: Any, x: Any, y: Any, z: Any) -> Any:
    """The vector x, y, z turned by a rotation `(3, 3)`."""
    return (
        turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z,
        turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z,
        turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z,
    )


@kernel
def _normal_equations(
    data: Any, weight: Any, inverse_noise: Any, k: Any, count: Any, n: Any, spectrum: Any, t: Any, s: Any, scale: Any,
    a: Any, b: Any,
) -> Any:  # fmt: skip
    """Fill `a` (6, 6), `b` (6,) for turn and shift at a pose; returns <data, model>, <model, model>, <data, data>."""
    a[:] = 0.0
    b[:] = 0.0
    dm, mm, dd = 0.0, 0.0, 0.0
    slope, row = np.empty(3, np.complex64), np.empty(6, np.complex64)
    turn = 2 * np.pi / n
    for m in range(count):
        w = weight[m]
        if w <= 0:
            continue
        x, y, z = k[m, 0], k[m, 1], k[m, 2]
        value = look(
            spectrum,
            t[0, 0] * x + t[1, 0] * y + t[2, 0] * z,
            t[0, 1] * x + t[1, 1] * y + t[2, 1] * z,
            t[0, 2] * x + t[1, 2] * y + t[2, 2] * z,
            slope,
        )
        at = turn * (x * s[0] + y * s[1] + z * s[2])
        phase = np.complex64(complex(np.cos(at), -np.sin(at)) * w)
        value *= phase
        gx, gy, gz = slope[0] * phase, slope[1] * phase, slope[2] * phase
        # the gradient in the tomogram's frame; a small turn o moves the looked-up component by k x o
        hx, hy, hz = turned_to(t, gx, gy, gz)
        row[0], row[1], row[2] = hy * z - hz * y, hz * x - hx * z, hx * y - hy * x
        back = np.complex64(complex(value.imag, -value.real) * turn)
        row[3], row[4], row[5] = back * x, back * y, back * z
        f, q = data[m], inverse_noise[m]
        dm += q * (f.real * value.real + f.imag * value.imag)
        mm += q * (value.real * value.real + value.imag * value.imag)
        dd += q * (f.real * f.real + f.imag * f.imag)
        left = f - scale * value
        for i in range(6):
            ri, rj = row[i].real, row[i].imag
            b[i] += q * (ri * left.real + rj * left.imag)
            for j in range(i + 1):
                a[i, j] += q * (ri * row[j].real + rj * row[j].imag)
    for i in range(6):
        b[i] *= scale
        for j in range(i + 1):
            a[i, j] *= scale * scale
            a[j, i] = a[i, j]
    return dm, mm, dd


@kernel
def _solved(a: Any, b: Any, damping: Any, x: Any) -> bool:
    """`x` (6,) of `(a + damping diag(a)) x = b` by Cholesky; False where `a` is not positive."""
    f = np.zeros((6, 6))
    for i in range(6):
        for j in range(i + 1):
            total = a[i, j]
            if i == j:
                total += damping * a[i, i] + 1e-12
            for m in range(j):
                total -= f[i, m] * f[j, m]
            if i == j:
                if total <= 0:
                    return False
                f[i, i] = np.sqrt(total)
            else:
                f[i, j] = total / f[j, j]
    for i in range(6):
        x[i] = b[i]
        for m in range(i):
            x[i] -= f[i, m] * x[m]
        x[i] /= f[i, i]
    for i in range(5, -1, -1):
        for m in range(i + 1, 6):
            x[i] -= f[m, i] * x[m]
        x[i] /= f[i, i]
    return True


@kernel
def _turned(t: Any, o: Any) -> Any:
    """A rotation turned on by the vector `o` (radians), by Rodrigues' formula."""
    angle = np.sqrt(o[0] * o[0] + o[1] * o[1] + o[2] * o[2])
    r = np.zeros((3, 3))
    r[0, 0], r[1, 1], r[2, 2] = 1.0, 1.0, 1.0
    if angle > 1e-12:
        x, y, z = o[0] / angle, o[1] / angle, o[2] / angle
        c, s = np.cos(angle), np.sin(angle)
        d = 1 - c
        r[0, 0], r[0, 1], r[0, 2] = c + x * x * d, x * y * d - z * s, x * z * d + y * s
        r[1, 0], r[1, 1], r[1, 2] = y * x * d + z * s, c + y * y * d, y * z * d - x * s
        r[2, 0], r[2, 1], r[2, 2] = z * x * d - y * s, z * y * d + x * s, c + z * z * d
    out = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for m in range(3):
                out[i, j] += r[i, m] * t[m, j]
    return out


@parallel_kernel
def refine_poses(
    data: Any, owner: Any, weights: Any, kind: Any, inverse_noise: Any, k: Any, count: Any, n: Any,
    spectrum: Any, turns: Any, shifts: Any, scores: Any, steps: Any, reach: Any,
) -> None:  # fmt: skip
    """Climb from each pose to the highest constrained correlation near it (Levenberg-Marquardt), in place.

    Poses: `turns` float64 `(p, 3, 3)`, `shifts` float64 `(p, 3)` pixels of a box of `n`, `owner` int64 `(p,)` the
    particle of each. `data` complex64 `(particles, m)`; `weights` float32 `(kinds, m)`, what a particle of a `kind`
    `(particles,)` has of its structure; `inverse_noise` float32 `(m,)`; `k` float32 `(m, 3)`; only the first `count` of
    them are looked at. Shifts do not go further than `reach` from where they start. `scores` `(p,)` get the
    correlation, -1 to 1.
    """
    for p in prange(turns.shape[0]):
        f, w = data[owner[p]], weights[kind[owner[p]]]
        t, s, start = turns[p].copy(), shifts[p].copy(), shifts[p].copy()
        a, b, x = np.empty((6, 6)), np.empty(6), np.empty(6)
        a2, b2 = np.empty((6, 6)), np.empty(6)
        dm, mm, dd = _normal_equations(f, w, inverse_noise, k, count, n, spectrum, t, s, 1.0, a, b)
        scale = max(dm, 1e-30) / max(mm, 1e-30)
        dm, mm, dd = _normal_equations(f, w, inverse_noise, k, count, n, spectrum, t, s, scale, a, b)
        score = dm / np.sqrt(max(mm * dd, 1e-30))
        damping = DAMPING
        for _ in range(steps):
            if not _solved(a, b, damping, x):
                break
            t2, s2 = _turned(t, x[:3]), s + x[3:]
            away = np.sqrt(((s2 - start) ** 2).sum())
            if away > reach:
                s2 = start + (s2 - start) * (reach / away)
            dm, mm, dd = _normal_equations(f, w, inverse_noise, k, count, n, spectrum, t2, s2, scale, a2, b2)
            found = dm / np.sqrt(max(mm * dd, 1e-30))
            if found > score:
                gained = found - score
                t, s, score, damping = t2, s2, found, damping / 4
                a[:], b[:] = a2, b2
                if gained < 1e-5 * abs(score):
                    break
            else:
                damping = max(damping, 1e-4) * 8
                if damping > 1e3:
                    break
        turns[p], shifts[p], scores[p] = t, s, score


@kernel
def sampled_at(gap: Any, nearest: Any, left: Any, x: Any, y: Any, z: Any) -> Any:
    """How far views sampled a component of a tomogram, 0 to 1, and what its signal is multiplied by there.

    `gap` float32 `(ANGLES,)`: sine of the angle from each direction of the x-z plane to what was sampled;
    `nearest` int64 `(ANGLES,)`: the nearest view; `left` float32 `(views, shells)`: the factor by shell.
    """
    across = np.sqrt(x * x + z * z)
    along = np.arctan2(z, x) / np.pi
    at = int(np.floor((along + 1.0) * ANGLES + 0.5)) % ANGLES
    share = max(1.0 - across * gap[at], 0.0)
    shell = min(int(np.sqrt(across * across + y * y) + 0.5), left.shape[1] - 1)
    return np.float32(share), left[nearest[at], shell]


@parallel_kernel
def wedge_of(gap: Any, nearest: Any, left: Any, frame: Any, k: Any, share: Any, factor: Any) -> None:
    """The same for components `k` `(m, 3)` of a tomogram whose views see it turned by `frame`; into `(m,)` each."""
    for m in prange(k.shape[0]):
        share[m], factor[m] = sampled_at(gap, nearest, left, *turned_to(frame, k[m, 0], k[m, 1], k[m, 2]))


@parallel_kernel
def add_particle(
    spectrum: Any, turn: Any, shift: Any, frame: Any, gap: Any, nearest: Any, left: Any, k: Any, n: Any, scale: Any,
    total: Any, weight: Any,
) -> None:  # fmt: skip
    """Add a particle's padded spectrum, turned back to the reference, to `total` complex64 `(m,)`, and to `weight`.

    `turn` and `shift` are its pose, `frame` `(3, 3)` how its views see the tomogram; `weight` float32 `(m,)` gets what
    its views sampled, times how much of the signal they left; both count `scale` times.
    """
    turning = 2 * np.pi / n
    for m in prange(k.shape[0]):
        slope = np.empty(3, np.complex64)
        x, y, z = turned_to(turn, k[m, 0], k[m, 1], k[m, 2])
        share, factor = sampled_at(gap, nearest, left, *turned_to(frame, x, y, z))
        if share > 0:
            at = turning * (x * shift[0] + y * shift[1] + z * shift[2])
            value = look(spectrum, x, y, z, slope) * np.complex64(complex(np.cos(at), np.sin(at)))
            total[m] += np.float32(scale * share) * value
            weight[m] += np.float32(scale * share * factor)


@parallel_kernel
def keep_best(found: Any, local: Any, number: Any, best: Any, worst: Any, at: Any) -> None:
    """Take `found / local` into the best scores, of its negative into `worst`, `number` into `at` where it is best.

    All `(nz, ny, nx)`, float32 but `at`, int32.
    """
    for z in prange(found.shape[0]):
        for y in range(found.shape[1]):
            for x in range(found.shape[2]):
                score = found[z, y, x] / local[z, y, x]
                if score > best[z, y, x]:
                    best[z, y, x] = score
                    at[z, y, x] = number
                worst[z, y, x] = max(worst[z, y, x], -score)
