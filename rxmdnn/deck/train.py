"""The training deck ``train.in``: its keywords, which are also the flags of ``rxmdnn train``."""

from __future__ import annotations

from rxmdnn.deck.language import Entry, Keyword, Value, not_negative, positive


def _fraction(x: float) -> str | None:
    return None if 0 <= x < 1 else "must be in [0, 1)"


def _parts(e: Entry) -> str | None:
    return None if e.validation > 0 and e.validation + e.test < 1 else \
        "validation must be above zero, and frames must remain for training"


def _even(x: int) -> str | None:
    return None if x > 0 and x % 2 == 0 else "must be even and above zero"


def _order(x: int) -> str | None:
    return None if 0 <= x <= 3 else "must be 0, 1, 2 or 3"


def _width(x: float) -> str | None:
    return None if 0 < x <= 0.288 else "must be above 0 and at most 0.288, which is the plain mean of all steps"


def _sam(e: Entry) -> str | None:
    return "friendly averages one gradient; it needs ascent 'global'" if (e.variant, e.ascent) == ("friendly", "rank") \
        else None


TABLE: tuple[Keyword, ...] = (
    Keyword("data", (Value("file", "file"),), "labelled frames with energy and forces: any format that ASE reads with "
            "them (extended XYZ, .traj, vasprun.xml, OUTCAR, .json, .db), or HDF5", rest=1),
    Keyword("training_data", (Value("file", "file", ()),),
            "further labelled frames, all of which are trained on; 'split' does not see them", rest=1),
    Keyword("energy_key", (Value("name", "str", None),), "word of a frame that is its energy, eV; absent: energy"),
    Keyword("forces_key", (Value("name", "str", None),),
            "column that holds the forces, eV/Å; absent: forces or force"),
    Keyword("stress_key", (Value("name", "str", None),),
            "word of a frame that is its stress, eV/Å^3, tension positive; a name with 'virial' is -V times that, eV; "
            "absent: stress or virial"),
    Keyword("elements", (Value("element", "str"),), "species of the model, in this order", rest=1),
    Keyword("split", (Value("validation", "float", 0.1, check=_fraction), Value("test", "float", 0.1, check=_fraction)),
            "shares of each kind of frame for validation and held-out test; groups are never split", check=_parts),
    Keyword("groups", (Value("group", "str", "group"), Value("kind", "str", "kind", optional=True)),
            "info keys of a frame: its trajectory (never split) and its kind (errors are listed by kind)"),
    Keyword("energies", (Value("element", "str", ()), Value("energy", "float", (), unit="eV")),
            "energies of isolated atoms; absent: least-squares fit to the training frames", rest=2),
    Keyword("seed", (Value("seed", "int", 1, check=not_negative),),
            "of the split, the initial weights and the order of batches"),

    Keyword("from_model", (Value("file", "file", None),),
            "start from this model (its shape and weights); energies of atoms are fitted to the new labels"),
    Keyword("r_max", (Value("r_max", "float", 5.0, unit="Å", check=positive),), "cutoff"),
    Keyword("network", (Value("l_max", "int", 1, check=_order), Value("layers", "int", 2, check=positive),
                        Value("scalars", "int", 64, check=_even), Value("tensors", "int", 16, check=positive)),
            "Allegro: largest order of the spherical harmonics, layers, scalar features S, tensor features U"),
    Keyword("mlp", (Value("width", "int", 64, check=positive), Value("depth", "int", 1, check=positive),
                    Value("readout", "int", 32, check=positive)),
            "width and number of hidden layers, and width of the readout"),
    Keyword("zbl", (Value("on", "bool", True),
                    Value("fraction", "float", 0.8, check=not_negative, optional=True,
                          help="zero beyond this fraction of the sum of covalent radii; 0: beyond r_max")),
            "short-range nuclear repulsion (Ziegler-Biersack-Littmark)"),
    Keyword("dtype", (Value("dtype", ("float32", "float64"), "float32"),), "floating-point type of the network"),

    Keyword("loss", (Value("force", "float", 1.0, check=not_negative),
                     Value("energy", "float", 1.0, check=not_negative),
                     Value("stress", "float", None, check=not_negative, optional=True)),
            "weights of the mean squared errors of forces, of energy per atom and of stress, if labelled (eV, Å)"),
    Keyword("huber", (Value("force", "float", None, unit="eV/Å", check=positive),
                      Value("energy", "float", None, unit="eV", check=positive),
                      Value("stress", "float", None, unit="eV/Å^3", check=positive, optional=True)),
            "errors beyond which the loss is linear; absent: always quadratic"),
    Keyword("huber_species", (Value("element", "str", ()), Value("force", "float", (), unit="eV/Å", check=positive)),
            "the same for the forces on atoms of each of these species", rest=2),
    Keyword("weight_kinds", (Value("kind", "str", ()), Value("factor", "float", (), check=not_negative)),
            "factors of the frames of these kinds in the loss; all factors are scaled to a mean of 1", rest=2),
    Keyword("weight_close", (Value("factor", "float", None, check=not_negative),
                             Value("fraction", "float", 0.8, check=positive, optional=True)),
            "factor of the frames with a pair of atoms nearer than this fraction of the sum of their covalent radii"),
    Keyword("weight_stretched", (Value("factor", "float", None, check=not_negative),
                                 Value("fraction", "float", 1.25, check=positive, optional=True)),
            "factor of the frames with an atom whose nearest neighbor is beyond this multiple of the sum of their "
            "covalent radii"),
    Keyword("weight_energies", (Value("scale", "float", None, unit="eV/atom", check=positive),),
            "factor 1/(1 + ΔE/scale) of the energy of a frame, ΔE per atom above the lowest of its composition; "
            "absent: 1"),
    Keyword("noise", (Value("sigma", "float", None, unit="Å", check=positive, help="of each component; try 0.01"),),
            "displace the atoms of training frames anew in each epoch; energies are corrected by the forces"),
    Keyword("decorrelation", (Value("weight", "float", None, check=not_negative),
                              Value("of", ("covariance", "correlation"), "covariance", optional=True)),
            "penalty: weight times the mean square of the off-diagonal elements of the covariance of the latent "
            "features of edges"),
    Keyword("batch", (Value("size", "int", 4, check=positive),
                      Value("of", ("frames", "atoms"), "frames", optional=True)),
            "frames per batch, or largest number of atoms per batch"),
    Keyword("adam", (Value("learning_rate", "float", 2e-3, check=positive),
                     Value("beta1", "float", 0.9, check=_fraction, optional=True),
                     Value("beta2", "float", 0.999, check=_fraction, optional=True)),
            "learning rate; betas of Adam and AdamW"),
    Keyword("optimizer", (Value("word", "str", ()),),
            "adam (default), adamw or one of pytorch_optimizer; then its options, e.g. weight_decay=0.01", rest=1),
    Keyword("weight_decay", (Value("rate", "float", None, check=not_negative),),
            "AdamW: each step multiplies the matrices of the network by 1 - learning rate × rate; absent: no decay"),
    Keyword("sam", (Value("rho", "float", None, check=not_negative, help="length of the climb; try 0.005 first"),
                    Value("adaptive", "bool", False, optional=True, help="ASAM: steps in proportion to the weights"),
                    Value("start_fraction", "float", 0.0, check=_fraction, optional=True,
                          help="fraction of the epochs before SAM begins; 0.8 is late-phase SAM"),
                    Value("variant", ("plain", "friendly", "periodic"), "plain", optional=True),
                    Value("every", "int", 5, check=positive, optional=True, help="periodic: steps per climb"),
                    Value("ascent", ("global", "rank"), "global", optional=True,
                          help="climb along the gradient of the whole batch, or of the part of each rank")),
            "sharpness-aware minimization: steps use the gradient at the top of a climb; absent: no SAM", check=_sam),
    Keyword("clip", (Value("norm", "float", None, check=positive),), "largest norm of the gradient; absent: no limit"),
    Keyword("ema", (Value("decay", "float", 0.99, check=_fraction),),
            "exponential moving average of the weights, which is validated and saved"),
    Keyword("ema_horizon", (Value("fraction", "float", None, check=_width),),
            "instead of ema: average of the weights over this fraction of the training so far; try 0.1"),
    Keyword("plateau", (Value("factor", "float", 0.5, check=_fraction),
                        Value("patience", "int", 50, check=not_negative)),
            "multiply the learning rate by factor after patience epochs without a lower validation loss"),
    Keyword("cosine", (Value("final", "float", None, check=positive),),
            "instead of plateau: reduce the learning rate as a cosine of the step, to final times its initial value"),
    Keyword("warm_up", (Value("steps", "int", 0, check=not_negative),),
            "number of steps over which the learning rate rises linearly"),
    Keyword("epochs", (Value("epochs", "int", 1000, check=positive),), "largest number of passes over the data"),
    Keyword("stop", (Value("patience", "int", None, check=positive),),
            "stop after this many epochs without a lower validation loss; absent: never"),
    Keyword("stop_at_force", (Value("mae", "float", None, unit="meV/Å", check=positive),),
            "stop when the mean absolute error of the validation forces is at most this; absent: never"),

    Keyword("keep", (Value("weights", ("best", "last"), "best"),),
            "weights in the model file: the average at the epoch of the lowest validation loss, or at the last epoch, "
            "which does not depend on a few difficult validation frames"),
    Keyword("output", (Value("folder", "path", "training"),),
            "checkpoints, metrics and figures; a killed training resumes from here", {"--outDir|-o": ("folder",)}),
    Keyword("tensorboard", (Value("on", "bool", False),),
            "also write the metrics for TensorBoard to <output>/tensorboard (needs the package tensorboardX)"),
    Keyword("model", (Value("file", "path"),), "the trained model"),
    Keyword("json", (Value("file", "path", None),), "also write the final errors to this file"),
)
