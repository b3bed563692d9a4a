"""The deck of the loop that repairs a model, ``learn.in``: its keywords, which are also flags of ``rxmdnn learn``."""

from __future__ import annotations

from rxmdnn.deck.language import Keyword, Value, positive

CHOICES = ("latent", "random")


def _probability(x: float) -> str | None:
    return None if 0 < x < 1 else "must be between 0 and 1"


def _confidence(x: float) -> str | None:
    return None if 0.5 <= x < 1 else "must be at least 0.5 and less than 1"


TABLE: tuple[Keyword, ...] = (
    Keyword("model", (Value("file", "file"),), "the model to begin with"),
    Keyword("data", (Value("file", "file"),), "labelled frames that it was trained on, of the same engine", rest=1),
    Keyword("train", (Value("deck", "file"),),
            "deck of every retraining, which starts from the present weights; give it the 'split' and 'seed' of the "
            "model to begin with, so that held-out frames stay held out"),

    Keyword("runs", (Value("deck", "file"),),
            "deck of rxmdnn tfail without a model: the runs to survive. Every round draws new velocities and noise",
            repeats=True),
    Keyword("production", (Value("deck", "file"),),
            "deck of rxmdnn run, of any ensemble, path integrals too, with 'fidelity': its incidents are alarms too",
            repeats=True),
    Keyword("survive", (Value("atoms", "int", check=positive), Value("time", "float", unit="ps", check=positive),
                        Value("temperature", "float", unit="K", check=positive),
                        Value("probability", "float", 0.95, check=_probability, optional=True),
                        Value("confidence", "float", 0.95, check=_confidence, optional=True)),
            "the loop ends when the lower bound of the probability that such a run completes, at this confidence, is "
            "at least this probability"),

    Keyword("engine", (Value("name", "str"),), "engine of the labels, as of rxmdnn label --engine"),
    Keyword("budget", (Value("labels", "int", check=positive),
                       Value("hours", "float", None, unit="h", check=positive, optional=True)),
            "the loop ends after so many labels, or at the end of the round in which so much time has passed"),
    Keyword("rounds", (Value("number", "int", 5, check=positive),), "largest number of rounds"),
    Keyword("labels", (Value("round", "int", 50, check=positive), Value("alarm", "int", 3, check=positive,
                                                                        optional=True)),
            "largest number of labels of a round, and of frames before one alarm"),
    Keyword("cut", (Value("atoms", "int", 64, check=positive),),
            "label at most so many atoms around the worst atom of a frame"),
    Keyword("choose", (Value("by", CHOICES, "latent"),),
            "latent: frames before alarms, far from one another and from the training set in latent space; random: as "
            "many frames from anywhere in the runs, for comparison; by: latent, random"),
    Keyword("guard", (Value("percent", "float", 10.0, unit="%", check=positive),),
            "a retraining that raises the force error of a kind of held-out frames by more than this is undone"),

    Keyword("executor", (Value("name", "str", "processes"), Value("file", "file", None, optional=True)),
            "processes: of this machine; parsl <file>: of a cluster, by the Parsl 'config' of this Python file"),
    Keyword("workers", (Value("number", "int", None, check=positive),),
            "runs and labels at a time; absent: the ranks of mpirun, or the cores"),
    Keyword("output", (Value("folder", "path", "learning"),),
            "folder of the ledger, models, labels and report; a killed loop goes on from it",
            {"--outDir|-o": ("folder",)}),
)
