"""Example lines and caveats of the keywords of rxmdnn.in, train.in, tfail.in and learn.in; see examples.py."""

from __future__ import annotations

from rxmdnn.deck import examples

MORE: dict[str, dict[str, str]] = {
    "rxmd.in": examples.EXAMPLES,
    "rxmdnn.in": {
        "allegro": "allegro ammonia_legato.safetensors 2 H 1.008 N 14.007",
        "compiled": "compiled model.nequip.pt2 1 2 H 1.008 N 14.007",
        "ase": "ase ase.calculators.emt:EMT 1 Cu 63.546",
        "lj": "lj 0.0104 3.4 8.5 1 Ar 39.948",
        "zbl": "zbl 0.8 2 H 1.008 N 14.007",
        "null": "null 6.0 2 H 1.008 N 14.007",
    },
    "train.in": {
        "data": "data frames.xyz more.traj",
        "training_data": "training_data active.xyz",
        "energy_key": "energy_key REF_energy",
        "forces_key": "forces_key REF_forces",
        "stress_key": "stress_key REF_virial",
        "elements": "elements H N",
        "split": "split 0.1 0.1",
        "groups": "groups trajectory kind",
        "energies": "energies H -13.6 N -54.5",
        "seed": "seed 3",
        "from_model": "from_model old.safetensors",
        "r_max": "r_max 4.5",
        "network": "network 1 2 64 16",
        "mlp": "mlp 64 1 32",
        "zbl": "zbl T 0.8",
        "dtype": "dtype float64",
        "loss": "loss 1.0 20.0",
        "huber": "huber 0.3 0.02",
        "huber_species": "huber_species H 0.2 N 0.4",
        "weight_kinds": "weight_kinds collision 0.2",
        "weight_close": "weight_close 3.0 0.8",
        "weight_stretched": "weight_stretched 3.0 1.25",
        "weight_energies": "weight_energies 0.5",
        "noise": "noise 0.01",
        "decorrelation": "decorrelation 1e-3",
        "batch": "batch 128 atoms",
        "adam": "adam 4.0e-3",
        "optimizer": "optimizer adamw",
        "weight_decay": "weight_decay 0.01",
        "sam": "sam 0.005",
        "clip": "clip 10.0",
        "ema": "ema 0.99",
        "ema_horizon": "ema_horizon 0.1",
        "plateau": "plateau 0.5 20",
        "cosine": "cosine 0.01",
        "warm_up": "warm_up 100",
        "epochs": "epochs 200",
        "stop": "stop 50",
        "stop_at_force": "stop_at_force 30",
        "keep": "keep last",
        "output": "output training",
        "tensorboard": "tensorboard T",
        "model": "model mine.safetensors",
        "json": "json errors.json",
    },
    "tfail.in": {
        "model": "model mine.safetensors adam 1",
        "sizes": "sizes 64 128 256",
        "temperatures": "temperatures 1000 1500",
        "replicas": "replicas 8",
        "seed": "seed 1 training",
        "start": "start solid_I.cif",
        "thermalize": "thermalize mine.safetensors 0.2",
        "masses": "masses H 2.014012",
        "thermostat": "thermostat svr 100",
        "dt": "dt 1.0",
        "cap": "cap 6.0",
        "skin": "skin 0.6",
        "precision": "precision float32",
        "criteria": "criteria finite pair bond temperature",
        "check": "check 10",
        "published": "published 100",
        "after": "after 100",
        "frames": "frames 5 20",
        "samples": "samples 500",
        "batch": "batch 512",
        "output": "output study",
    },
    "learn.in": {
        "model": "model mine.safetensors",
        "data": "data frames.xyz",
        "train": "train train.in",
        "runs": "runs tfail.in",
        "production": "production rxmd.in",
        "survive": "survive 432 100 300 0.95",
        "engine": "engine gfn1",
        "budget": "budget 500 24",
        "rounds": "rounds 5",
        "labels": "labels 50 3",
        "cut": "cut 64",
        "choose": "choose latent",
        "guard": "guard 10",
        "executor": "executor parsl cluster.py",
        "workers": "workers 4",
        "output": "output learning",
    },
}

CAVEATS: dict[str, dict[str, str]] = {
    "rxmd.in": examples.CAVEATS,
    "rxmdnn.in": {
        "allegro": "element and mass follow in pairs; the order of elements is that of the species numbers in files",
        "compiled": "the file is code, which is run: use only files that you trust",
        "ase": "the module is code, which is run; one rank only",
        "zbl": "a model that was trained with 'zbl T', the default of train.in, has it already",
    },
    "train.in": {
        "split": "frames of one group are never divided among the parts; give groups to frames of one trajectory",
        "energies": "with few compositions the fit is not unique; give energies of isolated atoms then",
        "stress_key": "the sign of VASP and of many data sets is the opposite one; a plot of parity shows it",
        "sam": "twice the time per step; see the study of robustness before you rely on it",
        "from_model": "the network has the shape of that model: 'network' and 'mlp' may be left out",
    },
    "tfail.in": {
        "cap": "runs without failure count as capped, not as failed: the analysis is that of censored times",
        "published": "by fluctuation it fires in small systems without any failure",
    },
    "learn.in": {
        "engine": "labels must be of the method of the training data",
        "guard": "kinds with few held-out frames have noisy errors: give a larger value",
        "budget": "hours are looked at between rounds only",
    },
}


def example_of(deck: str, keyword: str) -> str:
    """The example line of a keyword; empty without one. deck : as ``rxmd.in``"""
    return MORE.get(deck, {}).get(keyword, "")


def caveat_of(deck: str, keyword: str) -> str:
    """What to know before using a keyword; empty if there is nothing more than its help."""
    return CAVEATS.get(deck, {}).get(keyword, "")
