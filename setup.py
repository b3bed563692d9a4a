"""Build rxmdnn; the folder kernels/ ships inside the package, as rxmdnn.kernels."""

from setuptools import find_packages, setup

KERNELS = ["rxmdnn.kernels"] + [f"rxmdnn.kernels.{name}" for name in find_packages("kernels")]
EXAMPLES = [  # inputs of `rxmdnn examples`, below input/
    "ammonia/*.in", "ammonia/*.cif", "ammonia/ammonia_*.safetensors",
    *(f"ammonia/{part}/*.{kind}" for part in ("fidelity", "nqe", "learning") for kind in ("in", "cif", "safetensors")),
    "ammonia/learning/hole.xyz", "silicon/pump/*.in", "silicon/*.xyz", "silicon/*.safetensors", "cuau/pump/*.in",
    *(f"{name}/*.{kind}" for name in ("methanol", "cuau") for kind in ("in", "xyz", "safetensors")),
]

setup(
    name="rxmdnn",
    version="0.1.0",
    description="Neural-network quantum molecular dynamics: spatial decomposition, Allegro, path integrals",
    license="MIT",
    python_requires=">=3.10",
    packages=[*find_packages(include=["rxmdnn", "rxmdnn.*"]), *KERNELS, "rxmdnn.input"],
    package_dir={"rxmdnn.kernels": "kernels", "rxmdnn.input": "input"},
    package_data={"rxmdnn": ["py.typed"], "rxmdnn.analysis": ["*.css", "*.js"],
                  "rxmdnn.kernels.cuda": ["*.cu", "*.cuh"], "rxmdnn.input": EXAMPLES},
    include_package_data=False,
    install_requires=[
        "numpy>=1.26",
        "numba>=0.62",
        "mpi4py>=4.0",
        "h5py>=3.10",
        "torch>=2.4",
        "e3nn>=0.5.1",
        "safetensors>=0.4",
        "ase>=3.23",
        "scipy>=1.11",
        "tqdm>=4.60",
        "matplotlib>=3.7",
        "periodictable>=2.0",
    ],
    extras_require={
        "gpu": ["cupy-cuda13x[ctk]>=14"],
        "cuda-test": ["nvidia-cuda-nvrtc>=13"],
        "mpi": ["openmpi>=5.0.8"],
        "label": ["tblite>=0.4"],
        "train": ["pytorch_optimizer>=3.5", "tensorboardX>=2.6"],
        "fidelity": ["lifelines>=0.29"],
        "analysis": ["dynasor>=2.3"],
        "phonons": ["phonopy>=2.40"],
        "hpc": ["parsl>=2024.10"],
        "report": ["plotly>=6.0"],
        "docs": ["sphinx>=8", "myst-parser>=4", "furo>=2024.8", "sphinx-copybutton>=0.5", "sphinx-design>=0.6"],
        "test": ["pytest>=8", "tensorboardX>=2.6", "MDAnalysis>=2.8", "vesin>=0.3", "dynasor>=2.3", "ipi>=3.0",
                 "phonopy>=2.40", "plotly>=6.0",
                 "physical_validation>=1.0.5", "ruff", "mypy", "codespell>=2.3"],
    },
    entry_points={"console_scripts": ["rxmdnn = rxmdnn.__main__:main"]},
)
