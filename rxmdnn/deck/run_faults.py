"""Consistency checks between the lines of a run deck; each function returns the faults that it finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rxmdnn.deck.language import Deck
from rxmdnn.deck.models import ModelLine
from rxmdnn.deck.motion import cell_is_driven
from rxmdnn.deck.words import MINIMIZATION, SAMPLING


def model_faults(deck: Deck, models: Iterable[ModelLine], n_ranks: int | None, repulsion: bool) -> list[str]:
    """Faults of lines of the run deck with a model that sees all atoms at once, and of its ranks."""
    faults, models = [], list(models)
    if deck["table"].force_error is not None and models and not any(model.kind == "allegro" for model in models):
        faults.append(deck["table"].fault("tabulates Allegro networks, but the model deck has no line 'allegro'; omit "
                                          "this line"))
    for line in (model for model in models if model.is_whole):
        if (n_ranks or 1) > 1:
            faults.append(line.fault(f"sees all atoms at once and runs on one rank, but {n_ranks} are running"))
        if repulsion:
            faults.append(line.fault("nothing can be added to it; omit the line zbl"))
        faults += [deck[name].fault(f"not available with the model '{line.kind}' of {line.where}; omit it")
                   for name, given in (("model_weights", deck["model_weights"].weight not in ((), (1.0,))),
                                       ("pimd", deck["pimd"].beads is not None),
                                       ("shparams", deck["shparams"].file is not None),
                                       ("spparams", deck["spparams"].file is not None)) if given]
    return faults


def ensemble_faults(deck: Deck) -> list[str]:
    """Faults of the lines of the ensemble: ensemble, barostat, pramp, strain_ramp, shear_ramp."""
    line, cell_line, faults = deck["ensemble"], deck["barostat"], []
    mode = deck["mdmode"].mode
    if line.kind is not None and mode != 1:
        faults.append(line.fault(f"mdmode {mode} acts on the velocities too; write mdmode 1, or omit this line"))
    if line.kind not in (None, "nve"):
        ramped = deck["tramp"].t0 is not None
        given = deck["tramp" if ramped else "temperature"]
        if min((given.t0, given.t1) if ramped else (given.treq,)) <= 0:
            faults.append(given.fault(f"an ensemble {line.kind} needs a temperature above zero"))
    if cell_is_driven(deck) and mode == MINIMIZATION:
        faults.append(deck["mdmode"].fault("a minimization does not follow strain_ramp or shear_ramp; use 'strain', or "
                                           "another mdmode"))
    if cell_line.kind is not None:
        if line.kind in (None, "nve"):
            faults.append(cell_line.fault("needs a thermostat; write for example 'ensemble svr 0.1'"))
        elif cell_line.kind == "mtk" and line.kind != "nose-hoover":
            faults.append(cell_line.fault(f"mtk needs 'ensemble nose-hoover', not {line.kind}; use scr"))
        if cell_is_driven(deck):
            faults.append(cell_line.fault("strain_ramp and shear_ramp prescribe the cell; omit one of them"))
    elif deck["pramp"].p0 is not None:
        faults.append(deck["pramp"].fault("needs a line 'barostat <kind> <pressure> <tau_p>'"))
    return faults


def ring_faults(deck: Deck, n_models: int, n_ranks: int | None) -> list[str]:
    """Faults of the pimd lines."""
    line, of_centroid, contraction, groups = (deck[k] for k in ("pimd", "ensemble", "pimd_contraction", "pimd_groups"))
    if line.beads is None:
        asked = {"pimd_integrator": deck["pimd_integrator"].name != "bcocb", "pimd_dump": bool(deck["pimd_dump"].nstep),
                 "pimd_contraction": bool(contraction.beads), "pimd_groups": groups.number > 1,
                 "pimd_eco": deck["pimd_eco"].given, "pimd_pairs": bool(deck["pimd_pairs"].nstep)}
        return [deck[name].fault("needs a line 'pimd <beads> <method>'") for name, given in asked.items() if given]
    faults = []
    if deck["mdmode"].mode != 1:
        faults.append(line.fault(f"needs mdmode 1, not {deck['mdmode'].mode}"))
    if deck["temperature"].treq <= 0:
        faults.append(deck["temperature"].fault("treq must be above zero for a ring polymer"))
    if deck["tramp"].t0 is not None:
        faults.append(deck["tramp"].fault("the springs of a ring polymer are those of one temperature; omit this "
                                          "line, and make one run per temperature"))
    if line.method in SAMPLING and of_centroid.kind in (None, "nve"):
        faults.append(line.fault("the centroids need a thermostat; write 'ensemble langevin 0.1' (PILE-L) or "
                                 "'ensemble svr 0.1' (PILE-G), or use a method for dynamics: rpmd, trpmd, pacmd"))
    if line.method not in SAMPLING and of_centroid.kind not in (None, "nve"):
        faults.append(of_centroid.fault(f"{line.method} has no thermostat of the centroids; omit this line, or use "
                                        "'pimd <beads> pimd' for averages"))
    if line.method == "rpmd" and line.number is not None:
        faults.append(line.fault("rpmd has no friction; omit it, or use trpmd"))
    if deck["pimd_eco"].given and line.method != "eco":
        faults.append(deck["pimd_eco"].fault(
            f"the frequencies of economised rings are fitted for averages, which {line.method} does not use; omit this "
            f"line, or write 'pimd {line.beads} eco' for averages and continue with {line.method} from its checkpoint"))
    if deck["pimd_pairs"].nstep and line.method != "pimd":
        faults.append(deck["pimd_pairs"].fault(f"needs the distribution of 'pimd {line.beads} pimd', not of "
                                               f"{line.method}"))
    if line.method == "suzuki-chin":
        if line.beads % 2:
            faults.append(line.fault(f"suzuki-chin needs an even number of beads, not {line.beads}"))
        if contraction.beads:
            faults.append(contraction.fault("suzuki-chin evaluates all models on all beads; omit this line, or use "
                                            f"'pimd {line.beads} pimd'"))
    if line.beads % groups.number or (n_ranks or 0) % groups.number:
        ranks = "" if n_ranks is None else f" and {n_ranks} rank{'s are' if n_ranks > 1 else ' is'} running"
        faults.append(groups.fault(f"{groups.number} groups for {line.beads} beads{ranks}: the number of groups must "
                                   "divide both"))
    if contraction.beads:
        if len(contraction.beads) != n_models or n_models < 2:
            faults.append(contraction.fault(f"{len(contraction.beads)} numbers of beads for {n_models} model(s); it "
                                            "needs a mixture of at least two models, and one number per model"))
        faults += [contraction.fault(f"{p} beads: must be odd, or all {line.beads}") for p in contraction.beads
                   if p > line.beads or (p % 2 == 0 and p != line.beads)]
    return faults


def estimate_faults(deck: Deck, elements: Sequence[str] | None) -> list[str]:
    """Faults of the pimd_estimate lines. elements : of the models, None where they are not known."""
    faults, seen = [], set()
    for line in deck["pimd_estimate"]:
        of_element = line.quantity in ("isotope", "momentum")
        if deck["pimd"].beads is None or deck["pimd"].method not in ("pimd", "eco"):
            faults.append(line.fault("needs a line 'pimd <beads> pimd' or 'pimd <beads> eco'"))
        if of_element and (line.element is None or (line.quantity == "isotope" and line.value is None)):
            value = "<mass of the other isotope, amu>" if line.quantity == "isotope" else "<r_max, Å>"
            faults.append(line.fault(f"write 'pimd_estimate {line.quantity} <nstep> <element> {value}'"))
        elif of_element and elements is not None and line.element not in elements:
            faults.append(line.fault(f"{line.element} is not an element of the models: {', '.join(elements)}"))
        if (line.quantity, line.element if of_element else None) in seen:
            faults.append(line.fault("given before; keep one"))
        seen.add((line.quantity, line.element if of_element else None))
    return faults


def fidelity_faults(deck: Deck) -> list[str]:
    """Faults of the fidelity lines."""
    line, heal, faults = deck["fidelity"], deck["fidelity_heal"], []
    if line.action == "off":
        more = [e for name in ("fidelity_watch", "fidelity_calibration", "fidelity_martingale",
                                    "fidelity_observers") if (e := deck[name]).given]
        return [e.fault("without effect; also write 'fidelity flag', stop or heal") for e in
                (*more, *deck["fidelity_limit"])]
    limits = deck["fidelity_limit"]
    faults += [e.fault(f"{e.kind}: given before; keep one") for k, e in enumerate(limits)
               if e.kind in [other.kind for other in limits[:k]]]
    if deck["mdmode"].mode == MINIMIZATION:
        faults.append(line.fault("a minimization has no time steps to monitor; omit this line"))
    if (bets := deck["fidelity_martingale"]).given and not deck["fidelity_calibration"].given:
        faults.append(bets.fault("its scores need calibrated tails; also write 'fidelity_calibration <file>', from "
                                 "'rxmdnn fidelity calibrate' on a clean run"))
    if bets.given and deck["pimd"].beads is not None:
        faults.append(bets.fault("not available for a ring polymer; omit this line"))
    if line.action == "heal" and deck["pimd"].beads is not None:
        faults.append(line.fault("a ring polymer can be monitored, but not healed: the splitting of its modes is made "
                                 "for whole steps; use fidelity stop or flag"))
    if deck["pimd"].method == "suzuki-chin" or deck["pimd_groups"].number > 1:
        faults.append(line.fault("rings of method suzuki-chin, or of several pimd_groups, cannot be monitored; omit "
                                 "this line"))
    if line.action == "heal" and heal.interval % line.every:
        faults.append((heal if heal.given else line).fault(
            f"states are saved every {heal.interval} steps and checks are made every {line.every}: the first must be a "
            "multiple of the second, so that only valid states are saved"))
    return faults


def observer_faults(deck: Deck, models: Sequence[ModelLine]) -> list[str]:
    """Faults of the line fidelity_observers. models : all of them"""
    line, every = deck["fidelity_observers"], deck["fidelity"].every
    if not line.nstep:
        return []
    faults = [line.fault(text) for text, given in (
        ("the line excite needs all models in each step; omit one", deck["excite"].given),
        ("the spread of a committee is not available for a ring polymer; omit this line",
         deck["pimd"].beads is not None),
        (f"the models are evaluated every {line.nstep} steps, but the checks are made every {every}: the first must be "
         "a multiple of the second", line.nstep % every),
        ("there is one model, so none observes; add models to the model deck, or omit this line", len(models) < 2))
              if given]
    if deck["model_weights"].weight:
        faults.append(deck["model_weights"].fault("the first model alone moves the atoms with fidelity_observers; omit "
                                                  "this line"))
    return faults + [model.fault("sees all atoms at once; it cannot be observed, nor observe") for model in models
                     if model.is_whole and len(models) > 1]


def device_faults(deck: Deck) -> list[str]:
    """Faults of the lines for GPUs, and of lines that CUDA graphs do not support."""
    if deck["backend"].name != "cuda":
        alone = {"precision": deck["precision"].network == "tf32", "mpi": deck["mpi"].memory == "cuda-aware",
                 "graphs": deck["graphs"].on}
        return [deck[name].fault("needs 'backend cuda'") for name, given in alone.items() if given]
    if not deck["graphs"].on:
        return []
    waits = {"pimd": (deck["pimd"].beads is not None, "moves several beads per atom"),
             "fidelity": (deck["fidelity"].action != "off", "reads the results of each step"),
             "verbose": (deck["verbose"].on, "synchronizes after each part of a step"),
             "barostat": (deck["barostat"].kind is not None, "changes the cell in each step"),
             "strain_ramp": (cell_is_driven(deck), "or 'shear_ramp' changes the cell in each step")}
    return [deck["graphs"].fault(f"'{name}' {does}, which a graph does not support; choose one of them")
            for name, (given, does) in waits.items() if given]


def barostat_fault(deck: Deck, pbc: Iterable[bool]) -> str | None:
    """The fault of a barostat, or a minimized cell, where the start is not periodic along all axes (``pbc``)."""
    minimized = deck["mdmode"].mode == MINIMIZATION and deck["minimizer"].cell != "fixed"
    line = deck["minimizer" if minimized else "barostat"]
    if not (minimized or line.kind is not None) or all(pbc):
        return None
    axes = " and ".join(name for name, repeats in zip("abc", pbc) if not repeats)
    return line.fault(f"the cell of the start is not periodic along {axes}, so pressure is undefined; omit this line, "
                      "or start from a structure that is periodic along all three")


def start_faults(deck: Deck) -> list[str]:
    """Faults of the source of the start."""
    folder, source = Path(deck["outDir"].folder), deck["start"].source
    checkpoints = [folder / "checkpoint.h5", folder / "checkpoint.prev.h5"]
    files = {"checkpoint": checkpoints, "changed": checkpoints, "rxff": [folder / "rxff.bin"]}
    found = {name: any(f.is_file() for f in group) for name, group in files.items()}
    found["structure"] = deck["structure"].file is not None or deck["run_from_xyz"].file is not None
    if source != "auto" and not found[source]:
        wanted = f"no file '{files[source][0]}'" if source in files else "no line 'structure <file> <nx> <ny> <nz>'"
        return [deck["start"].fault(f"{source}: {wanted}")]
    if not any(found.values()):
        if Path("rxff.bin").is_file():
            return [f"{deck.file}: structure: nothing to start from in {folder}, but there is an rxff.bin here; move "
                    f"it (and rxff.bin.json) to {folder}, or make it there: rxmdnn geninit -o {folder}"]
        return [f"{deck.file}: structure: nothing to start from: no '{folder}/checkpoint.h5', no '{folder}/rxff.bin'; "
                "write 'structure <file> <nx> <ny> <nz>', use --run_from_xyz F, or run rxmdnn geninit"]
    return []
