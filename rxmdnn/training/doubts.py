"""What is implausible about a set of labels: one line each, which names file and frame. Nothing is refused here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rxmdnn.training.labelled_frames import LabelledFrame

RMS_FORCE = 20.0  # eV/Å, of a frame: a liquid at 3000 K has a few
STRESS = 1.0  # eV/Å³, 160 GPa: beyond the pressure of most experiments
SMEARED = 1e-3  # eV per atom between energy and free energy
APART = 10.0, 30.0  # eV per atom, and times the usual deviation: energies that are not of one zero
OUTLIER = 1e3  # largest force component over the median of the rms forces of frames


def doubts(frames: Sequence[LabelledFrame]) -> list[str]:
    """Lines about forces and stresses that are too large to be in eV and Å, and about outliers."""
    lines = (_large_forces(frames), _outliers(frames), _large_stresses(frames), _smeared(frames), _other_zero(frames))
    return [line for line in lines if line]


def untrained(frames: Sequence[LabelledFrame], training: Sequence[int], elements: Sequence[str]) -> list[str]:
    """A line about the elements that no training frame holds."""
    seen = np.unique(np.concatenate([frames[k].species for k in training]))
    missing = [e for k, e in enumerate(elements) if k not in seen]
    if not missing:
        return []
    return [f"no training frame holds {', '.join(missing)}: the model has untrained weights for it and must not move "
            "such atoms; remove it from 'elements', or add frames"]


def in_time(frames: Sequence[LabelledFrame]) -> list[str]:
    """A line about frames with a time but no group, whose neighbors in time may be in several parts of the split."""
    alone = [f for f in frames if f.in_time and f.group == f.where]
    if not alone:
        return []
    return [f"{alone[0].where}: has a time but no group (and {len(alone) - 1} more): neighbors in time may be in "
            "training and test; give each stretch of a trajectory a word 'group'"]


def _rms(frames: Sequence[LabelledFrame]) -> np.ndarray:
    return np.array([np.sqrt((f.forces**2).mean()) for f in frames])


def _of(frames: Sequence[LabelledFrame], large: np.ndarray, size: np.ndarray) -> str:
    """Which frame is the worst, and how many there are."""
    k = int(np.argmax(size))
    n = int(large.sum())
    return frames[k].where + (f" (and {n - 1} more of {len(frames)} frames)" if n > 1 else "")


def _large_forces(frames: Sequence[LabelledFrame]) -> str:
    rms = _rms(frames)
    if not (large := rms > RMS_FORCE).any():
        return ""
    return (f"{_of(frames, large, rms)}: rms force {rms.max():.3g} eV/Å, above {RMS_FORCE:g}; are the forces in eV/Å, "
            "not kcal/mol or kJ/mol, and is the frame physical?")


def _outliers(frames: Sequence[LabelledFrame]) -> str:
    largest, usual = np.array([abs(f.forces).max() for f in frames]), float(np.median(_rms(frames)))
    if not (usual > 0 and (large := largest > OUTLIER * usual).any()):
        return ""
    return (f"{_of(frames, large, largest)}: a force of {largest.max():.3g} eV/Å, {largest.max() / usual:.2g} times "
            "the rms force of the usual frame; remove the frame if its calculation failed")


def _large_stresses(frames: Sequence[LabelledFrame]) -> str:
    size = np.array([0.0 if np.isnan(f.stress).any() else abs(f.stress).max() for f in frames])
    if not (large := size > STRESS).any():
        return ""
    return (f"{_of(frames, large, size)}: stress {size.max():.3g} eV/Å³, above {STRESS:g} (160 GPa); is it in eV/Å³, "
            "tension positive, not kbar (1 kbar is 6.24e-4 eV/Å³, and VASP's sign is the opposite) or GPa?")


def _smeared(frames: Sequence[LabelledFrame]) -> str:
    """Energies extrapolated to no smearing, as VASP gives them, are not the potential of the forces."""
    size = np.array([np.nan_to_num(abs(f.energy - f.free_energy)) / len(f.x) for f in frames])
    if not (large := size > SMEARED).any():
        return ""
    return (f"{_of(frames, large, size)}: energy and free energy differ by {1000 * size.max():.3g} meV/atom; the "
            "forces are the gradient of the free energy: 'energy_key free_energy' takes it")


def _other_zero(frames: Sequence[LabelledFrame]) -> str:
    """Energies per atom far from the median of the frames of the same composition: another zero, unit or method."""
    by_composition: dict[tuple[int, ...], list[int]] = {}
    for k, f in enumerate(frames):
        counts = np.bincount(f.species)
        by_composition.setdefault(tuple(counts // np.gcd.reduce(counts)), []).append(k)
    energy = np.array([f.energy / len(f.x) for f in frames])
    away, large = np.zeros(len(frames)), np.zeros(len(frames), bool)
    for rows in by_composition.values():
        away[rows] = abs(energy[rows] - np.median(energy[rows]))
        large[rows] = away[rows] > max(APART[0], APART[1] * float(np.median(away[rows])))
    if not large.any():
        return ""
    return (f"{_of(frames, large, away)}: {away.max():.3g} eV per atom from the usual energy of its composition; are "
            "all energies of one method, with one zero?")
