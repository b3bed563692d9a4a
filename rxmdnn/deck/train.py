"""The training deck ``train.in``: its keywords, which are also the flags of ``rxmdnn train``."""

from __future__ import annotations

from rxmdnn.deck.language import Entry, Keyword, Value, not_negative, positive


def _fraction(x: float) -> str | None:
    return None if 0 <= x < 1 else "must be in [0, 1)"


def _parts(e: Entry) -> str | None:
    return None if e.validation > 0 and e.validation + e.test < 1 else \
        "validation must be above zero and something must be left for training"


def _even(x: int) -> str | None:
    return None if x > 0 and x % 2 == 0 else "must be even and above zero"


def _order(x: int) -> str | None:
    return None if 0 <= x <= 3 else "must be 0, 1, 2 or 3"


def _sam(e: Entry) -> str | None:
    return "friendly averages one gradient; it needs ascent 'global'" if (e.variant, e.ascent) == ("friendly", "rank") \
        else None


TABLE: tuple[Keyword, ...] = (
    Keyword("data", (Value("file", "file"),), "labelled frames with energy and forces: extended XYZ or HDF5", rest=1),
    Keyword("elements", (Value("element", "str"),), "species of the model, in its order", rest=1),
    Keyword("split", (Value("validation", "float", 0.1, check=_fraction), Value("test", "float", 0.1, check=_fraction)),
            "shares of each kind of frame for validation and held-out test; a group is never torn", check=_parts),
    Keyword("groups", (Value("group", "str", "group"), Value("kind", "str", "kind", optional=True)),
            "info words of a frame: its trajectory (never torn) and its kind (errors are listed by it)"),
    Keyword("energies", (Value("element", "str", ()), Value("energy", "float", (), unit="eV")),
            "energies of isolated atoms; absent: least squares over the training frames", rest=2),
    Keyword("seed", (Value("seed", "int", 1, check=not_negative),), "of the split, the weights, the order of batches"),

    Keyword("from_model", (Value("file", "file", None),),
            "go on from this model: its shape and weights hold; energies of atoms are fitted to the new labels"),
    Keyword("r_max", (Value("r_max", "float", 5.0, unit="Å", check=positive),), "cutoff"),
    Keyword("network", (Value("l_max", "int", 1, check=_order), Value("layers", "int", 2, check=positive),
                        Value("scalars", "int", 64, check=_even), Value("tensors", "int", 16, check=positive)),
            "Allegro: order of the harmonics, layers, scalar features S, tensor features U"),
    Keyword("mlp", (Value("width", "int", 64, check=positive), Value("depth", "int", 1, check=positive),
                    Value("readout", "int", 32, check=positive)), "hidden layers and the readout's width"),
    Keyword("zbl", (Value("on", "bool", True),
                    Value("fraction", "float", 0.8, check=not_negative, optional=True,
                          help="it ends at this fraction of the covalent radii's sum, below the bonds; 0: at r_max")),
            "Ziegler-Biersack-Littmark repulsion at short range"),
    Keyword("dtype", (Value("dtype", ("float32", "float64"), "float32"),), "numbers of the network"),

    Keyword("loss", (Value("force", "float", 1.0, check=not_negative),
                     Value("energy", "float", 1.0, check=not_negative),
                     Value("stress", "float", None, check=not_negative, optional=True)),
            "weights of the mean squared errors of forces, of energy per atom and of stress, where labelled (eV, Å)"),
    Keyword("huber", (Value("force", "float", None, unit="eV/Å", check=positive),
                      Value("energy", "float", None, unit="eV", check=positive),
                      Value("stress", "float", None, unit="eV/Å^3", check=positive, optional=True)),
            "where errors begin to count linearly; absent: never"),
    Keyword("huber_species", (Value("element", "str", ()), Value("force", "float", (), unit="eV/Å", check=positive)),
            "the same for the forces on each of these species", rest=2),
    Keyword("batch", (Value("size", "int", 4, check=positive),
                      Value("of", ("frames", "atoms"), "frames", optional=True)),
            "frames of a batch, or atoms that it may hold at most"),
    Keyword("adam", (Value("learning_rate", "float", 2e-3, check=positive),
                     Value("beta1", "float", 0.9, check=_fraction, optional=True),
                     Value("beta2", "float", 0.999, check=_fraction, optional=True)),
            "learning rate; the betas of Adam and AdamW"),
    Keyword("optimizer", (Value("word", "str", ()),),
            "adam (default), adamw, or a name of pytorch_optimizer; then its options, as weight_decay=0.01", rest=1),
    Keyword("sam", (Value("rho", "float", None, check=not_negative, help="length of the climb; 0.005 to begin with"),
                    Value("adaptive", "bool", False, optional=True, help="ASAM: steps in proportion to the weights"),
                    Value("start_fraction", "float", 0.0, check=_fraction, optional=True,
                          help="of the epochs that pass before it begins; 0.8 is late-phase SAM"),
                    Value("variant", ("plain", "friendly", "periodic"), "plain", optional=True),
                    Value("every", "int", 5, check=positive, optional=True, help="steps from climb to climb, periodic"),
                    Value("ascent", ("global", "rank"), "global", optional=True,
                          help="the climb is by the gradient of the whole batch, or of each rank's part of it")),
            "sharpness-aware minimization: a step's gradient is that at the top of a climb; absent: none", check=_sam),
    Keyword("clip", (Value("norm", "float", None, check=positive),), "largest norm of a gradient; absent: any"),
    Keyword("ema", (Value("decay", "float", 0.99, check=_fraction),),
            "exponential moving average of the weights: what is validated and saved"),
    Keyword("plateau", (Value("factor", "float", 0.5, check=_fraction),
                        Value("patience", "int", 50, check=not_negative)),
            "the learning rate is multiplied by factor after patience epochs without a better validation loss"),
    Keyword("cosine", (Value("final", "float", None, check=positive),),
            "instead of plateau: the learning rate falls by a cosine, step by step, to final times its start"),
    Keyword("warm_up", (Value("steps", "int", 0, check=not_negative),),
            "the learning rate rises linearly over so many steps"),
    Keyword("epochs", (Value("epochs", "int", 1000, check=positive),), "at most so many passes over the data"),
    Keyword("stop", (Value("patience", "int", None, check=positive),),
            "end after so many epochs without a better validation loss; absent: never"),

    Keyword("keep", (Value("weights", ("best", "last"), "best"),),
            "what the model file gets: the average at the epoch of the best validation loss, or at the last epoch, "
            "where a few hard validation frames have no say"),
    Keyword("output", (Value("folder", "path", "training"),),
            "checkpoints, metrics and plots; a killed run goes on from it", {"--outDir|-o": ("folder",)}),
    Keyword("tensorboard", (Value("on", "bool", False),),
            "also write the metrics for TensorBoard, to <output>/tensorboard (needs the package tensorboardX)"),
    Keyword("model", (Value("file", "path"),), "the trained model"),
    Keyword("json", (Value("file", "path", None),), "write the final errors there too"),
)
