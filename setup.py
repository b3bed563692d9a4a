"""Build rxmdnn; the folder kernels/ ships inside the package, as rxmdnn.kernels."""

from setuptools import find_packages, setup

KERNELS = ["rxmdnn.kernels"] + [f"rxmdnn.kernels.{name}" for name in find_packages("kernels")]

setup(
    name="rxmdnn",
    version="0.1.0",
    description="Neural-network quantum molecular dynamics: spatial decomposition, Allegro, path integrals",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["rxmdnn", "rxmdnn.*"]) + KERNELS,
    package_dir={"rxmdnn.kernels": "kernels"},
    package_data={"rxmdnn": ["py.typed"], "rxmdnn.analysis": ["*.css", "*.js"],
                  "rxmdnn.kernels.cuda": ["*.cu", "*.cuh"]},
    include_package_data=True,
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
        "test": ["pytest>=8", "tensorboardX>=2.6", "MDAnalysis>=2.8", "vesin>=0.3", "dynasor>=2.3", "ipi>=3.0",
                 "phonopy>=2.40", "plotly>=6.0",
                 "physical_validation>=1.0.5", "ruff", "mypy", "codespell>=2.3"],
    },
    entry_points={"console_scripts": ["rxmdnn = rxmdnn.__main__:main"]},
)
