"""The engine for Python programs: simulate ASE atoms, run a deck, load, train and evaluate models, read trajectories.

All functions take and return plain objects (ASE atoms, NumPy arrays, paths). Under ``mpirun`` every rank calls them
alike and gets the same answer. Mistakes in what is given raise InputError with the message that a deck would get.
"""

from __future__ import annotations

import hashlib
import signal
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from mpi4py import MPI

from rxmdnn.deck import language as decks
from rxmdnn.deck.fields import charge_lines
from rxmdnn.deck.language import near
from rxmdnn.deck.models import ModelLine
from rxmdnn.deck.run import RunDeck, checked, read_run
from rxmdnn.deck.run_table import RUN
from rxmdnn.deck.train import TABLE as TRAINING
from rxmdnn.deck.words import PARTS
from rxmdnn.dynamics.simulation import Simulation, Thermo
from rxmdnn.errors import InputError
from rxmdnn.io.ase_atoms import agree_on, agree_on_atoms, masses_of, start_of, with_isotopes, with_results
from rxmdnn.io.folder import holds_a_run
from rxmdnn.io.log import row_of
from rxmdnn.io.series import open_series
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import AgreedError, rows_of_all, together
from rxmdnn.run.ending import Ending
from rxmdnn.run.job import run_job
from rxmdnn.run.models import Files, Model, load_networks, load_potential, names_files
from rxmdnn.run.threads import keeping_threads
from rxmdnn.signals import pass_on
from rxmdnn.world import all_ranks

if TYPE_CHECKING:
    from ase import Atoms

Table = dict[str, np.ndarray]
SOURCE = "simulate: atoms"  # of what is wrong with them


class Simulated(NamedTuple):
    """Atoms after the last step, with energy, forces and stress, and the thermodynamic quantities of the run.

    table : {column: (rows,) array}: step, time_fs, etotal_eV, kinetic_eV, potential_eV, temperature_K, pressure_GPa,
        stress_xx_GPa ... (tension positive), volume_A3, conserved_eV, ...
    """

    atoms: Atoms
    table: Table


class RunResult(NamedTuple):
    """How a deck's run ended (``ending.exit_code``: 0 is well), its folder, and its thermodynamic quantities (as of
    Simulated) since this call."""

    ending: Ending
    step: int
    folder: Path
    table: Table


def load_model(model: Files, *, precision: str = "float32", backend: str = "auto",
               comm: MPI.Comm | None = None) -> Potential:
    """The potential of a model file, or a committee of several with equal weights.

    Parameters
    ----------
    model : path, or several
    precision : "float32", "float64" or "tf32" (on a GPU), of the network
    backend : "auto", "cpu", "cuda" or "reference"
    comm : MPI communicator, default: all ranks

    Returns
    -------
    Potential, with ``elements`` and ``cutoff`` (Å, by pair of elements)

    Raises
    ------
    InputError
        No such file, not a model, unknown precision or backend.

    Example
    -------
    >>> import rxmdnn
    >>> rxmdnn.load_model("input/ammonia/ammonia_legato.safetensors").elements
    ('N', 'H')
    """
    return load_potential(all_ranks() if comm is None else comm, model, precision, backend)[0]


def simulate(atoms: Atoms, model: Model, steps: int, *, dt: float = 0.5,
             ensemble: str | tuple[str, float] = "nve", temperature: float = 300.0,
             barostat: tuple[Any, ...] | None = None, beads: int | None = None, every: int = 10,
             report: bool | Callable[[dict[str, float]], None] = False, out: str | Path | None = None,
             comm: MPI.Comm | None = None, **lines: Any) -> Simulated:
    """Molecular dynamics of ASE atoms; the same bits as the deck that says the same.

    Parameters
    ----------
    atoms : ASE Atoms without constraints; its velocities are used, less their net momentum, or drawn at ``temperature``
        where there are none or all are zero
    model : path of a model file, several (a committee), or a Potential
    steps : int
    dt : float, fs
    ensemble : "nve", "langevin", "svr" or "nose-hoover", or (name, relaxation time in ps); default 0.1 ps
    temperature : float, K
    barostat : ("scr" or "mtk", pressure in GPa, relaxation time in ps[, shape[, compressibility in 1/GPa]])
    beads : int, of path integrals; ``pimd=(32, "trpmd")`` chooses a method. The returned atoms are the centroids, with
        the mean energy and forces of the beads
    every : int, steps between rows of the table, and between frames of out/trajectory.h5md
    report : True prints each row; a function is called with it as {column: number}, on rank 0
    out : folder for the log (printed too), trajectory and checkpoints of the run; None: nothing is written
    comm : MPI communicator, default: all ranks
    **lines : further keywords of a run deck with their values, such as skin=1.0, seed=7, precision="float64",
        field=("sine", "z", 0.01, 0.5) with charges=[("Na", 1), ("Cl", -1)] or charges="structure" (of the atoms), or
        with ``out`` fidelity=("stop", 10); ``rxmdnn help`` lists them. Default of seed: a number made of the positions
        and velocities, so that runs in a loop draw new random numbers and the same call repeats its result

    Returns
    -------
    (atoms, table), the same on every rank; positions are continuous in time, the given atoms are left unchanged. A
    warning tells of a run that ended early or at an unphysical temperature, or of a minimization that did not converge.

    Raises
    ------
    InputError
        Whatever a deck would refuse, an unknown argument, a folder that holds another run; with ``exit_code`` 4, a run
        that became unstable: energies or positions that are not finite, lost atoms.

    SIGTERM, SIGUSR1 and SIGINT (Ctrl-C) end the run after a few steps, with a checkpoint where there is ``out``, and
    then act on the program as they do elsewhere: the first two end it, the last raises KeyboardInterrupt.

    Example
    -------
    >>> from ase.build import bulk
    >>> import rxmdnn
    >>> from rxmdnn.backend import make
    >>> from rxmdnn.models.pair import LennardJones
    >>> argon = LennardJones(make("cpu"), ("Ar",), epsilon=0.0104, sigma=3.4, cutoff=6.0)
    >>> atoms, table = rxmdnn.simulate(bulk("Ar", cubic=True) * (2, 2, 2), argon, 20, dt=2.0, ensemble=("svr", 0.1),
    ...                                temperature=40.0)
    >>> table["step"].tolist()
    [0, 10, 20]
    """
    comm = all_ranks() if comm is None else comm
    given: dict[str, Any] = {
        "time": (dt, steps), "temperature": (temperature, 1.0, 1), "io_step": (0, every), "h5md": every,
        "ensemble": None if ensemble == "nve" else (ensemble, 0.1) if isinstance(ensemble, str) else ensemble,
        "barostat": barostat, "pimd": beads, "outDir": out}
    from_files = names_files(model)
    if not from_files:
        if "precision" in lines:
            raise InputError("simulate: precision: that of a Potential is chosen where it is made")
        lines = {"backend": "cpu", **lines}
    lines.setdefault("seed", _seed_of(atoms))
    agree_on_atoms(comm, atoms, "simulate")
    agree_on(comm, (given, lines, model if from_files else type(model)), "simulate")
    with together(comm):
        run = _run_of(given, lines, model, atoms, comm.size)
        if out is not None and holds_a_run(Path(out)):
            raise InputError(f"out: {out}: holds another run; name another folder")
    potential = None if from_files else load_potential(comm, model, backend=run.deck["backend"].name)[0]
    if out is None:
        _refuse_files(run.deck)
    charged = charge_lines(run.deck, run.elements).of_structure
    table, watch = _recorder(report, comm, run.deck["pimd_groups"].number == 1)
    with keeping_threads():
        done = run_job(comm, run, start=lambda inside: start_of(inside, atoms, run.elements, SOURCE, charged),
                       potential=potential, watch=watch, write=out is not None)
    pass_on(done.signalled)
    if done.ending not in (Ending.FINISHED, Ending.CONVERGED):
        warnings.warn(f"simulate: {done.ending.text(done.simulation.step)}", stacklevel=2)
    return Simulated(_final_atoms(atoms, done.simulation), comm.bcast(_columns(table)))


def _run_of(given: dict[str, Any], more: dict[str, Any], model: Model, atoms: Atoms, n_ranks: int) -> RunDeck:
    """The checked run of the arguments. Raises InputError with all faults."""
    of_files = {"structure", "run_from_xyz", "start", "model", "outDir", "strain", "shear", "until"}
    keywords = {k.name for k in RUN} - of_files - {"time"}
    names = [*keywords, "dt", "steps", "beads", "every", "report", "out", "comm"]
    faults = [f"simulate: {name}: unknown argument{near(name, names)}" for name in more if name not in keywords]
    faults += [f"simulate: {name}: given twice, as an argument and as a keyword" for name in more
               if given.get(name) is not None and name in ("ensemble", "barostat", "pimd", "temperature")]
    if faults:
        raise InputError(*faults)
    folder = given.pop("outDir")
    text = "".join(f"{name} {' '.join(_words(line))}\n" for name, value in (given | more).items() if value is not None
                   for line in (value if _is_several(value) else [value]))
    deck = decks.parse(text, "simulate", RUN, [] if folder is None else ["--outDir", str(folder)])
    kinds: list[tuple[str, dict[str, Any]]]
    if names_files(model):
        networks, elements = load_networks(model)
        elements = with_isotopes(elements, atoms)
        kinds = [("allegro", {"file": path}) for path, _ in networks]
    else:
        elements, kinds = model.elements, [(type(model).__name__, {})]
    masses = masses_of(atoms, elements, SOURCE)
    return checked(deck, [ModelLine(kind, words, elements, masses, "simulate: model") for kind, words in kinds],
                   n_ranks=n_ranks)


def _seed_of(atoms: Atoms) -> int:
    """A seed that is a function of positions and velocities."""
    state = np.concatenate([atoms.positions.ravel(), atoms.get_momenta().ravel()])
    return int.from_bytes(hashlib.sha256(state.tobytes()).digest()[:4], "little") >> 1


def _flags(overrides: dict[str, Any]) -> list[str]:
    """Keywords with their values as flags of a command line."""
    return [word for name, value in overrides.items() for word in (f"--{name}", *_words(value))]


def _is_several(value: Any) -> bool:
    """Whether a value stands for several lines of a keyword that repeats: a list of tuples."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, (tuple, list)) for item in value)


def _words(value: Any) -> list[str]:
    """A value of a deck's line as its words."""
    if isinstance(value, (tuple, list)):
        return [word for item in value for word in _words(item)]
    return [(".true." if value else ".false.") if isinstance(value, bool) else
            repr(float(value)) if isinstance(value, (float, np.floating)) else str(value)]


def run_deck(deck: str | Path = "rxmd.in", *, out: str | Path | None = None, comm: MPI.Comm | None = None,
             **overrides: Any) -> RunResult:
    """Run a deck, as ``rxmdnn run --rxmdin DECK --outDir OUT`` does; it goes on where a run in that folder ended.

    Parameters
    ----------
    deck : path of the run deck
    out : folder of the run, default: that of the deck
    comm : MPI communicator, default: all ranks
    **overrides : keywords of the deck with other values, such as time=(0.5, 200), seed=2

    Raises
    ------
    InputError
        All faults of the deck at once, with file and line; changes that a run which goes on may not make; with
        ``exit_code`` 4, a run that became unstable. An ending that is not FINISHED or CONVERGED (a signal, monitoring,
        an unphysical temperature, no convergence) is returned: ``ending.exit_code`` is that of the command.

    Example
    -------
    >>> import rxmdnn
    >>> done = rxmdnn.run_deck("input/ammonia/rxmd.in", out="OUT", ntime_step=100)  # doctest: +SKIP
    >>> done.table["temperature_K"][-1]                                            # doctest: +SKIP
    """
    comm = all_ranks() if comm is None else comm
    if out is not None and "outDir" in overrides:
        raise InputError("run_deck: outDir: given twice; give out alone")
    argv = ["--rxmdin", str(deck)] + ([] if out is None else ["--outDir", str(out)]) + _flags(overrides)
    with together(comm):
        run = read_run(argv, comm.size)
    table, watch = _recorder(False, comm)
    with keeping_threads():
        done = run_job(comm, run, watch=watch)
    if done.signalled == signal.SIGINT or not done.simulation.signalled:  # it stopped nothing: nobody was told
        pass_on(done.signalled)
    return RunResult(done.ending, done.simulation.step, run.folder, comm.bcast(_columns(table)))


def _refuse_files(deck: decks.Deck) -> None:
    """Raises InputError for lines whose effect is in files, where nothing is written."""
    asked = {"fidelity": deck["fidelity"].action != "off", "observe": bool(deck["observe"]),
             "json": deck["json"].file is not None, "pimd_dump": bool(deck["pimd_dump"].nstep),
             "pimd_estimate": bool(deck["pimd_estimate"]),
             "pimd_pairs": bool(deck["pimd_pairs"].nstep), "profile": bool(deck["profile"].nstep)}
    faults = [f"simulate: {name}: needs out, the folder for its files" for name, given in asked.items() if given]
    if faults:
        raise AgreedError(*faults)


def _recorder(report: bool | Callable[[dict[str, float]], None], comm: MPI.Comm, collective: bool = True
              ) -> tuple[list[dict[str, float]], Callable[[Thermo], None]]:
    """Rows that a run will fill, and what fills them and reports them on rank 0.

    collective : all ranks of ``comm`` call it, so that an error of ``report`` can end the run on all of them
    """
    rows: list[dict[str, float]] = []
    show: Callable[[dict[str, float]], None] = report if callable(report) else _print_row

    def watch(thermo: Thermo) -> None:
        rows.append(row_of(thermo))
        if not report:
            return
        error: Exception | None = None
        if comm.rank == 0:
            try:
                show(dict(rows[-1]))
            except Exception as raised:  # whatever a user's function raises
                error = raised
        failed = collective and comm.bcast(error is not None)
        if error is not None:
            raise error
        if failed:
            raise AgreedError("simulate: report failed on rank 0")

    return rows, watch


def _print_row(row: dict[str, float]) -> None:
    print(f"step {row['step']:9d}  {row['time_fs'] / 1000:10.4f} ps  E {row['etotal_eV']:18.6f} eV  "
          f"T {row['temperature_K']:9.3f} K  p {row['pressure_GPa']:10.5f} GPa", flush=True)


def _columns(rows: Sequence[dict[str, float]]) -> Table:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


def _final_atoms(like: Atoms, s: Simulation) -> Atoms:
    atoms, to_host, n = s.atoms, s.backend.to_host, s.atoms.n_owned
    x = to_host(atoms.x[:n]) + s.cell.cartesian(to_host(atoms.image[:n]).astype(float))
    x, v, f = rows_of_all(s.comm, s.n_global, to_host(atoms.gid[:n]), (x, to_host(atoms.v), to_host(atoms.f[:n])))
    return with_results(like, x, v, s.cell, s.forces.energy(), f, -s.forces.virial() / s.cell.volume)


class Trajectory(NamedTuple):
    """Frames of a trajectory as arrays; velocities is None where the file has none.

    names (n,) of str; masses (n,) amu; step (frames,); time (frames,) fs; positions (frames, n, 3) Å, continuous in
    time; velocities (frames, n, 3) Å/fs; cells (frames, 3, 3) Å, vectors in rows
    """

    names: np.ndarray
    masses: np.ndarray
    step: np.ndarray
    time: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray | None
    cells: np.ndarray


def read_trajectory(path: str | Path, *, start: float | None = None, stop: float | None = None,
                    step: int = 1) -> Trajectory:
    """The frames of a run's folder (trajectory.h5md, trajectory.xyz, or numbered extended XYZ files) or of one file.

    Parameters
    ----------
    path : folder or file
    start, stop : ps, of the frames that are read; default: all
    step : every so many frames

    Raises
    ------
    InputError
        No trajectory there, or no frame between these times.

    Example
    -------
    >>> import rxmdnn
    >>> frames = rxmdnn.read_trajectory("DAT", start=1.0)  # doctest: +SKIP
    >>> frames.positions.mean(axis=0)                      # doctest: +SKIP
    """
    if step < 1:
        raise InputError(f"read_trajectory: step {step}: must be at least 1")
    series = open_series(path)
    series.select(start, stop)
    rows = np.arange(0, len(series.time), step)
    return Trajectory(series.names, series.mass, series.step[rows], series.time[rows], series.unwrapped(rows),
                      series.read("v", rows) if "v" in series.has else None,
                      np.array([series.cell(int(k)).h for k in rows]))


def train(deck: str | Path, *, comm: MPI.Intracomm | None = None, **overrides: Any) -> dict[str, Any]:
    """Train a model as ``rxmdnn train DECK`` does, and return its report; a killed training goes on.

    Parameters
    ----------
    deck : path of the training deck; the model file, metrics and figures go where it says
    comm : MPI communicator, whose ranks share every batch; default: all ranks
    **overrides : keywords of the deck with other values, such as epochs=10, output="OUT"

    Returns
    -------
    dict: model, frames, weights, epochs, kept_epoch, best_epoch, seconds, and errors by part, eV/atom and eV/Å

    Raises
    ------
    InputError
        All faults of the deck at once, faults of the data by file and frame.

    Example
    -------
    >>> import rxmdnn
    >>> report = rxmdnn.train("input/ammonia/train.in", epochs=10, output="OUT")  # doctest: +SKIP
    >>> report["validation"]["all"]["force_mae"]                                  # doctest: +SKIP
    """
    from rxmdnn.training.training import train as train_deck  # torch, only where a network is trained

    comm = all_ranks() if comm is None else comm
    with together(comm):
        read = decks.read(deck, TRAINING, _flags(overrides))
    return comm.bcast(train_deck(read, comm))


def evaluate(model: str | Path, frames: str | Path | Sequence[str | Path] | Sequence[Atoms], *, part: str = "all",
             precision: str = "float32", progress: bool = False) -> dict[str, Any]:
    """Errors of a model on labelled frames, as ``rxmdnn evaluate`` writes them.

    Parameters
    ----------
    model : path of a model file
    frames : files of labelled frames (extended XYZ or HDF5), or ASE atoms with energy and forces
    part : "all", or "training", "validation" or "test" as the training deck of the model split these files
    precision : "float32" or "float64", of the network
    progress : show progress bars

    Returns
    -------
    dict: errors (MAE, RMSE, maximum; all and by species, kind and temperature; eV/atom, eV/Å, eV/Å^3), tail (of the
    force errors), worst (the frames of the largest errors)

    Raises
    ------
    InputError
        Faults of the data by file and frame, a part that these files do not have.

    Example
    -------
    >>> import rxmdnn
    >>> found = rxmdnn.evaluate("input/ammonia/ammonia_legato.safetensors", "input/ammonia/revpbe_d3bj_md300.xyz")
    >>> round(1000 * found["errors"]["all"]["force_mae"], 1)
    22.6
    """
    from rxmdnn.training.evaluate import evaluate as evaluate_frames  # torch

    if part not in ("all", *PARTS):
        raise InputError(f"evaluate: part {part!r}: must be one of all, {', '.join(PARTS)}")
    several: Any = [frames] if isinstance(frames, (str, Path)) or hasattr(frames, "positions") else frames
    data: Any = [Path(f) if isinstance(f, str) else f for f in several]
    if not data:
        raise InputError("evaluate: no frames are given")
    return evaluate_frames(Path(model), data, part, precision, progress).report
