"""The deck of a study of times to failure, ``tfail.in``: its keywords, which are also the flags of ``rxmdnn tfail``."""

from __future__ import annotations

from rxmdnn.deck.language import Keyword, Value, not_negative, positive
from rxmdnn.deck.words import CRITERIA

THERMOSTATS = ("svr", "nose-hoover", "langevin", "nve")
DRAWS = ("study", "training")
WATCHED = ("finite", "pair", "bond", "temperature", "energy", "published")  # those with limits for any model


def _several(x: int) -> str | None:
    return None if x > 1 else "must be at least 2"


TABLE: tuple[Keyword, ...] = (
    Keyword("model", (Value("file", "file"), Value("arm", "str", help="how it was trained; runs are compared by it"),
                      Value("training_seed", "int", 1, check=not_negative, optional=True)),
            "a model of the study", repeats=True),
    Keyword("sizes", (Value("atoms", "int", check=_several),), "numbers of atoms: replicas of a start", rest=1),
    Keyword("temperatures", (Value("t", "float", unit="K", check=positive),),
            "a ladder of them is an accelerated life test", rest=1),
    Keyword("replicas", (Value("n", "int", (8,), check=positive),),
            "runs of each model, size and temperature: one number, or one for each size (small systems are cheap)",
            rest=1),
    Keyword("seed", (Value("number", "int", 1, check=not_negative), Value("of", DRAWS, "study", optional=True)),
            "of velocities and noise. study: the same for every model; training: the same for models of one training "
            "seed, so that a few replicas of many seeds are many runs. Arms are compared in pairs either way"),

    Keyword("start", (Value("file", "file"),),
            "a cell, or several frames of one (each replica takes its own); a size uses the largest that divides it",
            repeats=True),
    Keyword("thermalize", (Value("file", "file", None), Value("time", "float", 0.0, unit="ps", check=positive),
                           Value("dt", "float", 0.5, unit="fs", check=positive, optional=True)),
            "first run each start with this model (Langevin); every model then starts from the same positions"),
    Keyword("masses", (Value("element", "str", ()), Value("mass", "float", (), unit="amu", check=positive)),
            "other than the natural ones: H 2.014012 is deuterium", rest=2),

    Keyword("thermostat", (Value("kind", THERMOSTATS, "svr"),
                           Value("tau", "float", 100.0, unit="fs", check=positive, optional=True)),
            "how the temperature is kept"),
    Keyword("dt", (Value("dt", "float", 0.5, unit="fs", check=positive),), "time step"),
    Keyword("cap", (Value("time", "float", unit="ps", check=positive),), "a run that lasts so long did not fail"),
    Keyword("skin", (Value("skin", "float", 0.6, unit="Å", check=not_negative),), "of the neighbor list"),
    Keyword("precision", (Value("network", ("float32", "float64"), "float32"),), "numbers of the network"),

    Keyword("criteria", (Value("kind", tuple(CRITERIA), ("finite", "pair", "bond", "temperature")),),
            "the first of these is the run's failure; all that are watched are recorded", rest=1),
    Keyword("check", (Value("steps", "int", 10, check=positive),), "criteria are asked so often"),
    Keyword("published", (Value("band", "float", 100.0, unit="K", check=positive),),
            "the published criterion: the temperature off its target by more"),
    Keyword("after", (Value("steps", "int", 0, check=not_negative),),
            "go on so long after the failure, to see what other criteria say"),
    Keyword("frames", (Value("count", "int", 3, check=not_negative), Value("spacing", "int", 20, check=positive)),
            "frames kept from before a failure, and the steps between them"),
    Keyword("samples", (Value("steps", "int", None, check=positive),),
            "keep a frame every so many steps for the true-force check; absent: none"),

    Keyword("batch", (Value("atoms", "int", 512, check=positive),), "replicas moved together have about so many atoms"),
    Keyword("output", (Value("folder", "path", "tfail"),), "results; a killed study goes on from them",
            {"--outDir|-o": ("folder",)}),
)
