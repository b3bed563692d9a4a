"""Lines of the run deck for what a run writes."""

from __future__ import annotations

from rxmdnn.deck.electrons import PROFILE
from rxmdnn.deck.language import Keyword, Value, flag_each, not_negative, positive

FILES = (
    Keyword("io_step", (Value("fstep", "int", 100, "steps", not_negative, help="0: never"),
                        Value("pstep", "int", 10, "steps", positive)),
            "interval of frames, and of log lines", flag_each("fstep", "pstep"), group="output"),
    Keyword("io_type", (Value("isBinary", "bool", False, help="<outDir>/%09d.bin"),
                        Value("isBondFile", "bool", False, help="not written: a neural network has no bond orders"),
                        Value("isPDB", "bool", False, help="<outDir>/%09d.pdb"),
                        Value("isXYZ", "bool", True, help="<outDir>/%09d.xyz")),
            "formats of the frames written every fstep steps",
            flag_each("isBinary", "isBondFile", "isPDB", "isXYZ"), group="output"),
    Keyword("h5md", (Value("nstep", "int", 0, "steps", not_negative, help="0: never"),),
            "interval of frames in <outDir>/trajectory.h5md", group="output"),
    Keyword("xyz", (Value("nstep", "int", 0, "steps", not_negative, help="0: never"),),
            "interval of frames in <outDir>/trajectory.xyz, one extended XYZ file for the whole run", group="output"),
    Keyword("observe", (Value("quantity", ("vdos", "gr"), None,
                              words={"vdos": "for rxmdnn spectra", "gr": "in <outDir>/gr_observed.csv"}),
                        Value("nstep", "int", None, "steps", positive),
                        Value("detail", "float", None, optional=True, check=positive,
                              help="vdos: resolution, 1/cm (10); gr: r_max, Å (10)")),
            "on-the-fly averages every nstep steps, which need no trajectory; kept in <outDir>/observe.h5 with every "
            "checkpoint", repeats=True, group="output"),
    *PROFILE,
    Keyword("checkpoint", (Value("nstep", "int", 1000, "steps", not_negative, help="0: at the end only"),),
            "interval of <outDir>/checkpoint.h5", group="output"),
)
FOLDER = (
    Keyword("outDir", (Value("folder", "str", "DAT"),), "folder of all outputs, from the working directory",
            {"--outDir|-o": ("folder",)}, group="output"),
)
UNITS = (
    Keyword("units", (Value("energy", ("ev", "kcal"), "ev"),), "unit of energies in the log: eV, or kcal/mol as RXMD",
            group="output"),
)
FIGURES = (
    Keyword("json", (Value("file", "path", None),), "also write the PERFORMANCE figures to this file", group="output"),
)
