"""Lines of the run deck for the atoms and the models that a run starts with."""

from __future__ import annotations

from rxmdnn.deck.ensembles import strain_fault
from rxmdnn.deck.language import Keyword, Value, positive
from rxmdnn.deck.words import STARTS

START = (
    Keyword("structure", (Value("file", "file", None), Value("nx", "int", 1, check=positive, optional=True),
                          Value("ny", "int", 1, check=positive, optional=True),
                          Value("nz", "int", 1, check=positive, optional=True),
                          Value("frame", "int", -1, optional=True, help="of a file of several, from 0; -1: the last")),
            "start from an input.xyz or any other file of atoms (formats of ASE, LAMMPS data, trajectory), replicated "
            "nx x ny x nz times; a name with blanks stands in double quotes", group="system"),
    Keyword("pbc", tuple(Value(axis, "bool", None) for axis in "abc"),
            "the axes along which the structure repeats, T or F for each (default: as its file says)", group="system"),
    Keyword("run_from_xyz", (Value("file", "file", None),), "start from this input.xyz, whatever outDir holds",
            {"--run_from_xyz|-runxyz": ("file",)}, group="system"),
    Keyword("start", (Value("source", ("auto", "checkpoint", "changed", "rxff", "structure"), "auto", words=STARTS),),
            "source of the start", group="system"),
)
MODELS = (
    Keyword("model", (Value("file", "file", None),), "the model deck (default: rxmdnn.in beside this deck)",
            group="system"),
    Keyword("model_weights", (Value("weight", "float", ()),), "one weight per model (default: equal, sum 1)", rest=1,
            group="system"),
)
STRAIN = (
    Keyword("strain", tuple(Value(f"e{a}", "float", 0.0, check=strain_fault) for a in "xyz"),
            "a structure is stretched by 1 + e along its cell vectors a, b, c at the start", group="system"),
    Keyword("shear", tuple(Value(f"d_{a}", "float", 0.0, "degrees") for a in ("alpha", "beta", "gamma")),
            "added to the cell angles of a structure at the start", group="system"),
)
