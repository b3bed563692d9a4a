"""Time zero of a pumped run: as the user says it, or the center of the first pulse that its frames name."""

from __future__ import annotations

from collections.abc import Sequence

from rxmdnn.analysis.pump_probe_frames import Replica
from rxmdnn.deck.words import FIRST_PULSE
from rxmdnn.errors import InputError


def time_zero(replicas: Sequence[Replica], given: float | None) -> tuple[float, str]:
    """Time zero, fs, and where it is from. given : of the command line, fs, or None

    Raises InputError where nobody says it, and where replicas differ.
    """
    if given is not None:
        return given, "--t0"
    found = {}
    for replica in replicas:
        s = replica.series
        words = [m[FIRST_PULSE] for _, m in s.stages if FIRST_PULSE in m]
        if not words:
            begins = [step for step, _ in s.stages[1:]]
            hint = ""
            if begins and s.step[0] < begins[0] <= s.step[-1]:
                hint = f"; what moves its atoms changes at {s.time[(s.step >= begins[0]).argmax()]:g} fs"
            raise InputError(f"{s.path}: does not name the time of a pulse; give it as --t0 FS, in the time of the "
                             f"run{hint}")
        found[str(s.path)] = float(words[0])
    if len(set(found.values())) > 1:
        raise InputError("structure: the pulses of the replicas are at other times: "
                         + ", ".join(f"{path} {t:g} fs" for path, t in found.items()))
    return next(iter(found.values())), "the pulse of the run"
