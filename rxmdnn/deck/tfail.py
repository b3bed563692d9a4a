"""The deck of a study of times to failure, ``tfail.in``: its keywords, which are also the flags of ``rxmdnn tfail``."""

from __future__ import annotations

from rxmdnn.deck.language import Keyword, Value, not_negative, positive
from rxmdnn.deck.words import CRITERIA

THERMOSTATS = ("svr", "nose-hoover", "langevin", "nve")
DRAWS = ("study", "training")
WATCHED = ("finite", "pair", "bond", "temperature", "energy", "published")  # those with limits that need no calibration


def _several(x: int) -> str | None:
    return None if x > 1 else "must be at least 2"


TABLE: tuple[Keyword, ...] = (
    Keyword("model", (Value("file", "file"), Value("arm", "str", help="its training method; runs are compared by arm"),
                      Value("training_seed", "int", 1, check=not_negative, optional=True)),
            "a model of the study", repeats=True),
    Keyword("sizes", (Value("atoms", "int", check=_several),),
            "numbers of atoms; each is a multiple of a start, which is repeated", rest=1),
    Keyword("temperatures", (Value("t", "float", unit="K", check=positive),),
            "several of them make an accelerated life test", rest=1),
    Keyword("replicas", (Value("n", "int", (8,), check=positive),),
            "runs of each model, size and temperature: one number, or one for each size",
            rest=1),
    Keyword("seed", (Value("number", "int", 1, check=not_negative), Value("of", DRAWS, "study", optional=True)),
            "random seed of velocities and noise. study: equal for all models; training: equal for models of one "
            "training seed only, so that seeds add independent runs. Arms are compared in pairs in both cases"),

    Keyword("start", (Value("file", "file"),),
            "a cell, or several frames of one system, one per replica; a size uses the largest start that divides it",
            repeats=True),
    Keyword("thermalize", (Value("file", "file", None), Value("time", "float", 0.0, unit="ps", check=positive),
                           Value("dt", "float", 0.5, unit="fs", check=positive, optional=True)),
            "run each start with this model first (Langevin); all models then start from the same positions"),
    Keyword("masses", (Value("element", "str", ()), Value("mass", "float", (), unit="amu", check=positive)),
            "masses other than the natural ones; H 2.014012 is deuterium", rest=2),

    Keyword("thermostat", (Value("kind", THERMOSTATS, "svr"),
                           Value("tau", "float", 100.0, unit="fs", check=positive, optional=True)),
            "thermostat, or constant energy (nve)"),
    Keyword("dt", (Value("dt", "float", 0.5, unit="fs", check=positive),), "time step"),
    Keyword("cap", (Value("time", "float", unit="ps", check=positive),), "length of a run without failure"),
    Keyword("skin", (Value("skin", "float", 0.6, unit="Å", check=not_negative),), "skin of the neighbor list"),
    Keyword("precision", (Value("network", ("float32", "float64"), "float32"),), "precision of the network"),

    Keyword("criteria", (Value("kind", tuple(CRITERIA), ("finite", "pair", "bond", "temperature")),),
            "the first of these that is met is the failure of a run; all others are recorded too", rest=1),
    Keyword("check", (Value("steps", "int", 10, check=positive),), "steps between checks of the criteria"),
    Keyword("published", (Value("band", "float", 100.0, unit="K", check=positive),),
            "published criterion: deviation of the temperature from its target"),
    Keyword("after", (Value("steps", "int", 0, check=not_negative),),
            "steps to continue after a failure, in which other criteria are recorded"),
    Keyword("frames", (Value("count", "int", 3, check=not_negative), Value("spacing", "int", 20, check=positive)),
            "number of frames kept from before a failure, and the steps between them"),
    Keyword("samples", (Value("steps", "int", None, check=positive),),
            "steps between frames that are kept for true force errors; absent: none"),

    Keyword("batch", (Value("atoms", "int", 512, check=positive),),
            "approximate number of atoms of the replicas that are propagated together"),
    Keyword("output", (Value("folder", "path", "tfail"),), "folder of the results; a killed study is resumed from them",
            {"--outDir|-o": ("folder",)}),
)
