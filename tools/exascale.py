"""A performance model of steps on 1 to 10^6 ranks, fitted to bench_scaling.csv, and an event simulation beside it.

    python tools/exascale.py                # fit, checks, tables; tools/results/exascale*.csv, docs/scaling_*.png
    python tools/exascale.py --ranks 100000 --steps 200

What is measured: the time per edge of the network, the time of lists and sums (tools/results/bench_md.csv); bytes,
messages and collective calls per step, how often lists are made (tools/results/bench_scaling.csv). What is assumed is
the network and the noise of a machine that this project does not have: the defaults of ``Machine``.

A step of rank r is a chain of events: the test whether lists are still good (a collective call), the copies over three
pairs of faces, the network, the forces back over the same faces. Its time is the largest of the times of its
predecessors plus its own. ``simulate`` follows these times for each rank, with noise drawn for each rank and step;
``model`` is the closed form, in which the slowest of P ranks with Gaussian noise σ is late by about σ √(2 ln P). Where
messages are hidden behind more work than that, ranks wait for each other only at a new list, every n steps, and the
sums of n steps differ by σ √n: the slowest is late by 1/√n of that per step.
"""

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np

HERE = Path(__file__).parent
MEASURED = HERE / "results/bench_scaling.csv"
ALONE = HERE / "results/bench_md.csv"
ROW = 24  # bytes of the position or force of an atom


@dataclass(frozen=True)
class Machine:
    """One rank and its network; times in s, sizes in bytes.

    edge, atom : of the network per edge, of everything else (lists, sums, motion) per atom and step
    rebuild : of a new list and its migration, per atom and copy
    latency, bandwidth : of a message between two ranks; overhead : of a rank, per message
    hop : of a collective call, per doubling of the number of ranks
    jitter : standard deviation of the time of a step of one rank, relative
    detour, detours : length of a rare interruption, and their rate per s
    poll : longest time in which a rank that computes does not look for messages
    disk, opens : of the file system, bytes per s and files opened per s; writers : most ranks for which one rank writes
    """

    name: str
    edge: float
    atom: float
    rebuild: float
    latency: float = 2e-6
    bandwidth: float = 0.4e9  # 25 GB/s of a node over 64 ranks
    overhead: float = 2e-5
    hop: float = 3e-6
    jitter: float = 0.01
    detour: float = 2e-3
    detours: float = 0.1
    poll: float = 2.5e-3
    disk: float = 5e11
    opens: float = 2e4
    writers: int = 64


@dataclass(frozen=True)
class Job:
    """What a rank has: atoms, edges per atom, atoms per Å^3, reach of the copies (Å), steps between lists and between
    checkpoints, bytes per atom of one."""

    name: str
    atoms: float
    edges: float = 45.0
    density: float = 0.09
    reach: float = 4.9
    list_every: float = 12.0
    saved_every: float = 1000.0
    saved_bytes: float = 96.0

    @property
    def width(self) -> float:
        """Å, of the cube that a rank owns."""
        return (self.atoms / self.density) ** (1 / 3)

    def copied(self, grid: tuple[int, int, int] = (2, 2, 2)) -> tuple[np.ndarray, np.ndarray]:
        """Copies per rank of each stage, all and those that come from other ranks."""
        widths = np.full(3, self.width)
        rows = np.array([2 * self.reach * np.prod(widths[axis + 1 :]) * np.prod(widths[:axis] + 2 * self.reach)
                         for axis in range(3)]) * self.density
        return rows, np.where(np.array(grid) > 1, rows, 0.0)

    @property
    def inner(self) -> float:
        """Share of the atoms that see no copy of another rank."""
        return max(0.0, 1 - 2 * self.reach / self.width) ** 3


def late(ranks: int) -> float:
    """Expected largest of so many standard normal numbers (Blom's approximation); 0 for one."""
    return NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25)) if ranks > 1 else 0.0


def stages(job: Job, m: Machine) -> np.ndarray:
    """(3,) s, of the exchange over a pair of faces along each axis, without the wait for others."""
    return 2 * m.overhead + m.latency + ROW * job.copied()[0] / m.bandwidth


def compute_time(job: Job, m: Machine) -> float:
    """s per step and rank."""
    return job.atoms * (job.edges * m.edge + m.atom)


def rebuild_time(job: Job, m: Machine) -> float:
    """s of a new list with its copies (64 bytes each) and migration."""
    copies = job.copied()[0].sum()
    return m.rebuild * (job.atoms + copies) + 2.7 * ROW * copies / m.bandwidth + 24 * m.overhead


def save_time(job: Job, m: Machine, ranks: int) -> float:
    """s of a checkpoint: bytes, and files opened (see rxmdnn.io.ordered.write_blocks)."""
    files = ranks / min(m.writers, max(1, np.ceil(ranks / 256)))
    return job.atoms * ranks * job.saved_bytes / m.disk + files / m.opens


def model(job: Job, m: Machine, ranks: int, overlap: bool = True) -> dict[str, float]:
    """s per step by part."""
    work, halo = compute_time(job, m), 2 * stages(job, m).sum() if ranks > 1 else 0.0
    levels = np.log2(ranks)
    reduction = m.hop * levels
    sigma = m.jitter * work
    hit = 1 - np.exp(-m.detours * work * ranks)  # that one of them meets a detour in a step
    noise = late(ranks) * sigma + hit * m.detour if ranks > 1 else 0.0
    if overlap and ranks > 1:
        polls = 3 * min(m.poll, work * job.inner / 2)
        hidden = work * job.inner / 2
        slow = late(ranks) * sigma / (np.sqrt(job.list_every) if hidden > late(ranks) * sigma else 1.0)
        some = 1 - np.exp(-m.detours * work * ranks * job.list_every)  # detours between two lists
        noise = slow + hit * max(0.0, m.detour - hidden) + some * min(m.detour, hidden) / job.list_every
        halo = 2 * max(0.0, halo / 2 + polls - hidden)
        reduction = max(0.0, reduction + min(m.poll, hidden) - hidden)
    return {"compute": work, "halo": halo, "reduction": reduction, "noise": noise,
            "lists": (rebuild_time(job, m) + 2 * m.hop * levels) / job.list_every,
            "output": save_time(job, m, ranks) / job.saved_every}


def efficiency(job: Job, m: Machine, ranks: int, overlap: bool = True) -> float:
    """Weak scaling: the time of a step on one rank over that on so many."""
    return sum(model(job, m, 1).values()) / sum(model(job, m, ranks, overlap).values())


def cube(ranks: int) -> tuple[int, int, int]:
    """The grid nearest to a cube with about so many ranks."""
    side = max(1, round(ranks ** (1 / 3)))
    return side, side, max(1, round(ranks / side**2))


def simulate(job: Job, m: Machine, ranks: int, steps: int, overlap: bool = True, test: bool = True,
             seed: int = 0) -> float:
    """s per step of the slowest rank, from the times of all events of all ranks. test : whether all agree on lists"""
    rng, grid = np.random.default_rng(seed), cube(ranks)
    work, stage, inner = compute_time(job, m), stages(job, m), job.inner if overlap else 0.0
    reduction, poll = m.hop * np.log2(max(ranks, 2)), m.poll if overlap else 0.0
    t = np.zeros(grid)

    def exchange(t: np.ndarray, axes: tuple[int, ...], poll: float) -> np.ndarray:
        for axis in axes:
            if grid[axis] > 1:
                t = np.maximum(t, np.maximum(np.roll(t, 1, axis), np.roll(t, -1, axis))) + stage[axis] + poll
        return t

    for step in range(steps):
        mine = work * (1 + m.jitter * rng.standard_normal(grid))
        mine += m.detour * rng.poisson(m.detours * work, grid)
        agreed = t.max() + reduction if test else t
        begin = t if overlap else np.maximum(t, agreed)
        first = begin + 0.5 * inner * mine
        copies = exchange(begin, (0, 1, 2), min(poll, 0.5 * inner * work))
        rim = np.maximum(np.maximum(first, copies), agreed) + (1 - inner) * mine
        forces = exchange(rim, (2, 1, 0), min(poll, 0.5 * inner * work))
        t = np.maximum(rim + 0.5 * inner * mine, forces)
        if step % int(job.list_every) == 0:
            t = np.full(grid, t.max() + 2 * reduction + rebuild_time(job, m))
        if step and step % int(job.saved_every) == 0:
            t = np.full(grid, t.max() + save_time(job, m, ranks))
    return float(t.max()) / steps


# ------------------------------------------------------------------ measured
def measured(path: Path) -> list[dict]:
    """Rows of bench_scaling.csv, numbers as numbers."""
    def number(text: str) -> float | str:
        try:
            return float(text)
        except ValueError:
            return text
    with path.open(newline="") as file:
        return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(file)]


def fitted(rows: list[dict], alone: list[dict]) -> Machine:
    """This machine's core, with the network of the machine that is modelled.

    rows : of bench_scaling.csv, which give shares; alone : of bench_md.csv, without other jobs, which give times
    """
    edge = 1e-6 * min(r["us_per_edge_network"] for r in alone if r["case"] == "allegro")
    engine = 1e-9 * min(r["ns_per_atom_step"] for r in alone if r["case"] == "null")
    (null,) = (r for r in rows if r["case"] == "null" and r["kind"] == "weak" and r["ranks"] == 1)
    # of the time for neighbors about as much goes to the edges of each step as to assembly; the rest is lists
    lists = engine * (null["neighbors"] - null["assembly"] + null["halo"])
    return Machine("core of this machine", edge, engine - lists, lists / null["builds_per_step"]
                   / (1 + null["copies_per_atom"]))


def check_measured(rows: list[dict], say) -> None:
    """Copies, bytes and messages that the model counts, beside those that the engine counted."""
    say("\ncase     ranks grid   copies per atom       bytes per step          messages per step")
    say("                       measured  model      measured  model         measured  model")
    for r in rows:
        if r["kind"] != "weak" or r["ranks"] == 1:
            continue
        a, b, c = map(int, r["grid"].split("x"))
        grid = a, b, c
        n = r["atoms"] / r["ranks"]
        reach, density = (9.0, 0.0213) if r["case"] == "lj" else (4.9, 16 / 5.1305**3)
        job = Job(r["case"], n, r["edges_per_atom"], density, reach)
        every, remote = job.copied(grid)
        axes = sum(g > 1 for g in grid)
        built = r["builds_per_step"]
        # copy and give back in each step; with a list also gid and species, and the messages of counts and migration
        size = ROW * remote.sum() * (2 - built) + 36 * remote.sum() * built
        sent = 2 * axes * ((2 - built) + 4 * built)
        say(f"{r['case']:8s} {r['ranks']:4.0f}  {r['grid']:6s} {r['copies_per_atom']:8.2f} {every.sum() / n:7.2f}"
            f"   {r['bytes_per_step']:10.0f} {size:10.0f}    {r['messages_per_step']:8.1f} {sent:7.1f}")


PUBLISHED = (  # name, atoms per rank, ranks, efficiency as published
    ("RXMD-NN class, 5.1e9 atoms on 262,144 cores (2021)", 5.1e9 / 262_144, 262_144, 0.94),
    ("the same class, upper end, at the same size", 5.1e9 / 262_144, 262_144, 0.98),
)
GPU_RATES = (1e5, 3e5, 1e6)  # atom-steps per second of one GPU


def check_published(m: Machine, say) -> None:
    """Weak scaling that was published, and the noise that the model needs for it."""
    say("\npublished weak scaling, by the model with blocking messages")
    scan = np.linspace(0, 0.03, 301)
    for name, atoms, ranks, known in PUBLISHED:
        job = Job(name, atoms)
        found = [efficiency(job, replace(m, jitter=s), ranks, overlap=False) for s in (0.003, 0.01, 0.015)]
        need = min(scan, key=lambda s: abs(efficiency(job, replace(m, jitter=s), ranks, overlap=False) - known))
        say(f"{name}: published {known:.2f}; model {', '.join(f'{f:.3f}' for f in found)} with a noise of "
            f"0.3, 1, 1.5 %; it needs {100 * need:.1f} %")
    job, gpu = Job("Allegro", 44e6 / 5120, density=0.1, reach=8.0), gpu_machine(m)
    even = [efficiency(job, replace(gpu, edge=1 / rate / job.edges, atom=0.0), 5120, overlap=False)
            for rate in GPU_RATES]
    say(f"Allegro, 44e6 atoms on 5,120 GPUs (2023): published 0.70; model {', '.join(f'{e:.3f}' for e in even)} with "
        f"0.1, 0.3, 1 million atom-steps per second of one GPU")


def gpu_machine(m: Machine) -> Machine:
    """A GPU that does the network 400 times as fast as the core, with launches and a network of its own.

    The engine waits for messages of a GPU; rows with overlap are what hiding them would give.
    """
    return replace(m, name="GPU, 400 cores", edge=m.edge / 400, atom=m.atom / 400, rebuild=m.rebuild / 400,
                   bandwidth=2.0e10, overhead=1e-4, poll=5e-5)


# ------------------------------------------------------------------ tables and figures
COUNTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


def jobs(m: Machine) -> list[tuple[Job, Machine]]:
    """The cases of the tables."""
    return [(Job("2,000 atoms per core", 2000), m), (Job("100 atoms per core", 100, list_every=12), m),
            (Job("25,000 atoms per GPU", 25_000), gpu_machine(m))]


def tables(m: Machine, say) -> list[dict]:
    """Time per step by part, modelled, with and without overlap."""
    rows = []
    for job, machine in jobs(m):
        say(f"\n{job.name} on a {machine.name}: ms per step")
        say("ranks      overlap  compute     halo  reduction  noise    lists   output   efficiency")
        for ranks in COUNTS:
            for overlap in (False, True):
                parts = model(job, machine, ranks, overlap)
                value = efficiency(job, machine, ranks, overlap)
                rows.append({"job": job.name, "ranks": ranks, "overlap": int(overlap), **parts, "efficiency": value})
                say(f"{ranks:9d}  {overlap!s:7s}" + "".join(f" {1e3 * v:8.3f}" for v in parts.values())
                    + f"   {value:8.3f}")
    return rows


def events(m: Machine, most: int, steps: int, say) -> list[dict]:
    """The event simulation beside the model."""
    rows = []
    say("\nevent simulation: efficiency against one rank (model in brackets)")
    for job, machine in jobs(m):
        one = sum(model(job, machine, 1).values())
        for ranks in (n for n in COUNTS if 100 <= n <= most):
            line = f"{job.name:24s} {ranks:8d}"
            for label, overlap, test in (("blocking", False, True), ("overlap", True, True),
                                         ("overlap, no test", True, False)):
                value = one / simulate(job, machine, ranks, steps, overlap, test)
                rows.append({"job": job.name, "ranks": ranks, "how": label, "efficiency": value})
                closed = f" [{efficiency(job, machine, ranks, overlap):.3f}]" if test else ""
                line += f"   {label} {value:.3f}{closed}"
            say(line)
    return rows


def write(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def figure(rows: list[dict], found: list[dict], path: Path) -> None:
    """Modelled efficiency as lines, simulated as points."""
    import matplotlib.pyplot as plt

    from rxmdnn.analysis.style import BLUE, GREEN, ORANGE, STYLE, save_figure

    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True)
        for axis, name in zip(axes, dict.fromkeys(r["job"] for r in rows), strict=True):
            for overlap, color, label in ((0, ORANGE, "blocking"), (1, BLUE, "overlap")):
                line = [(r["ranks"], r["efficiency"]) for r in rows if r["job"] == name and r["overlap"] == overlap]
                dots = [(r["ranks"], r["efficiency"]) for r in found if r["job"] == name and r["how"] == label]
                axis.plot(*zip(*line), color=color, label=f"{label}, model")
                axis.plot(*zip(*dots), "o", color=color, ms=4, label=f"{label}, events")
            dots = [(r["ranks"], r["efficiency"]) for r in found if r["job"] == name and r["how"].endswith("test")]
            axis.plot(*zip(*dots), "x", color=GREEN, ms=5, label="overlap, no agreement, events")
            axis.set(xscale="log", xlabel="ranks", title=name, ylim=(0, 1.05))
        axes[0].set_ylabel("weak-scaling efficiency")
        axes[0].legend(fontsize=7, loc="lower left")
        fig.tight_layout()
        save_figure(fig, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=MEASURED)
    parser.add_argument("--ranks", type=int, default=100_000, help="of the largest simulation")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    rows = measured(args.measured)
    machine = fitted(rows, measured(ALONE))
    print(f"fitted: {1e6 * machine.edge:.3f} µs per edge, {1e6 * machine.atom:.3f} µs per atom besides, "
          f"{1e9 * machine.rebuild:.0f} ns per atom or copy of a new list")
    check_measured(rows, print)
    check_published(machine, print)
    modelled, found = tables(machine, print), events(machine, args.ranks, args.steps, print)
    write(HERE / "results/exascale_model.csv", modelled)
    write(HERE / "results/exascale_events.csv", found)
    figure(modelled, found, HERE.parent / "docs/scaling_exascale.png")


if __name__ == "__main__":
    main()
