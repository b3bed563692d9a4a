"""``rxmdnn fidelity``: limits for monitoring, from the training set of a model (fit) or a clean run (calibrate)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rxmdnn import backend as backends
from rxmdnn.deck.run import read_run
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.fidelity import calibration, reference
from rxmdnn.fidelity.calibration import Samples
from rxmdnn.fidelity.criteria import Limits
from rxmdnn.fidelity.reference import Reference
from rxmdnn.fidelity.setup import references
from rxmdnn.files import check_outputs, sha256_of
from rxmdnn.io.structure import species_of
from rxmdnn.io.trajectory import read_frames
from rxmdnn.run.potential import make_observers, make_potential


def main(argv: Sequence[str]) -> None:
    """``fit MODEL DATA ...`` or ``calibrate [--rxmdin F] [--outDir DIR]``."""
    p = argparse.ArgumentParser("rxmdnn fidelity", description=__doc__.replace("``", ""))
    commands = p.add_subparsers(dest="command", required=True)
    f = commands.add_parser("fit", help="add the range of environments in its training set to a model file")
    f.add_argument("model", metavar="MODEL", type=Path, help="a native model file")
    f.add_argument("data", metavar="DATA", type=Path, nargs="+", help="labelled frames of its training set")
    f.add_argument("-o", "--out", metavar="F", type=Path, help="write this file instead of MODEL")
    f.add_argument("--kinds", metavar="K,K", help="only frames of these kinds, for example without collisions")
    c = commands.add_parser("calibrate", help="limits of a run from the frames of a clean run")
    c.add_argument("--rxmdin", metavar="F", default="rxmd.in", help="deck of the clean run")
    c.add_argument("--outDir", metavar="DIR", help="folder of the clean run (default: of the deck)")
    c.add_argument("-o", "--out", metavar="F", type=Path, help="output file (default: calibration.json in that folder)")
    c.add_argument("--frames", metavar="N", type=int, default=1000,
                   help="largest number of frames, evenly spaced (default: %(default)s)")
    a = p.parse_args(argv)
    COMMANDS[a.command](a)


def fit(a: argparse.Namespace) -> None:
    """Add statistics of the frames, with the features of the network, to the model file."""
    from rxmdnn.models.model_file import load_model, native_metadata
    from rxmdnn.training import dataset
    from rxmdnn.training.evaluate import chosen_frames
    from rxmdnn.training.reference_samples import of_network

    check_outputs(a.out)
    native_metadata(a.model)  # statistics can be added only to a native file
    network = load_model(a.model)
    elements = network.config.elements
    frames = chosen_frames(a.model, a.data, elements, "all")
    if a.kinds:
        wanted = set(a.kinds.split(","))
        if unknown := sorted(wanted - {f.kind for f in frames}):
            raise InputError(f"--kinds: no frame is of kind {', '.join(unknown)}; there are "
                             f"{', '.join(sorted({f.kind for f in frames}))}")
        frames = [f for f in frames if f.kind in wanted]
    data = dataset.with_neighbors(frames, float(network.config.cutoff.max()), progress=sys.stderr.isatty())
    found = of_network(network, data, range(len(frames)))
    out = a.out or a.model
    reference.write(found, a.model, out, {
        "frames": str(len(frames)), "kinds": a.kinds or "all",
        "data_sha256": " ".join(sha256_of(p) for p in a.data)})
    print(f"{out}: statistics of {len(frames)} frames, added to the model file\n" + text(found))


def text(found: Reference) -> str:
    """A reference as a table of text."""
    e, lines = found.elements, ["pair    closest, Å   longest bond, Å   neighbors"]
    for a in range(len(e)):
        for b in range(len(e)):
            longest = "" if np.isnan(found.longest[a, b]) else f"{found.longest[a, b]:.3f}"
            count = f"{found.fewest[a, b]:.0f} to {found.most[a, b]:.0f}" if found.bonded[a, b] else "no bonds told"
            lines.append(f"{e[a] + '-' + e[b]:<7s} {found.closest[a, b]:10.3f} {longest:>17s}   {count}")
    lines.append("atom    largest force, eV/Å   farthest features")
    lines += [f"{name:<7s} {found.force[k]:19.2f} {found.latent[k]:19.2f}" for k, name in enumerate(e)]
    return "\n".join(lines + [f"note: {note}" for note in found.missing()])


def calibrate(a: argparse.Namespace) -> None:
    """Tails of what the frames of a run show, by the models of its deck."""
    run = read_run(["--rxmdin", a.rxmdin, *(["--outDir", a.outDir] if a.outDir else [])])
    out = a.out or run.folder / "calibration.json"
    check_outputs(folders=[out.parent])
    backend = backends.make("cpu")
    potential, known = make_potential(run, backend), references(run)
    observers = make_observers(run, backend, potential)
    limits = Limits.of(run.elements)
    for one in known:
        limits = limits if one is None else one.tighten(limits)
    samples, steps, n = Samples(run.elements), [], 0
    frames = read_frames(run.folder, a.frames)
    for frame in tqdm(frames, desc="frames", leave=False, disable=not sys.stderr.isatty()):
        n = len(frame.x)
        species = species_of(frame.names, run.elements, run.folder, run.masses)
        calibration.sample(System.of(potential, frame.cell, species, frame.x, backend=backend, skin=0.0), known,
                           limits, samples, observers)
        steps.append(frame.step)
    if not steps:
        raise InputError(f"{run.folder}: no frames of a run (trajectory.h5md, trajectory.xyz or numbered .xyz files)")
    tails = samples.tails()
    calibration.write(out, tails, {"frames": len(steps), "atoms": n, "steps": [steps[0], steps[-1]]})
    print(f"{out}: tails of {len(steps)} frames of {n} atoms\n"
          "                    sample exceedance   level not exceeded by a normal atom with probability 1 - p, p =\n"
          "                    rate of the tail    1e-6         1e-9         1e-12")
    for kind, names in tails.items():
        for name, tail in names.items():
            levels = [tail.level(p) for p in (1e-6, 1e-9, 1e-12)]
            if kind == "pair":
                levels = [float(np.exp(-x)) for x in levels]
            print(f"{kind:<9s} {name:<9s} {tail.rate:16.4f} " + " ".join(f"{x:12.4f}" for x in levels))
    print(f"use it with a line 'fidelity_calibration {out}'")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {"fit": fit, "calibrate": calibrate}
