"""What tests on several ranks share."""

import pytest
from mpi4py import MPI

from tests.runs import shared_folder


@pytest.fixture
def folder(tmp_path_factory):
    """One folder for all ranks, with a triclinic mixture of argon and neon."""
    with shared_folder(MPI.COMM_WORLD, tmp_path_factory) as place:
        yield place
