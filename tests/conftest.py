"""What all tests share: one thread a process, the backends present, small systems."""

import os
import signal

signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite started in the background ignores it
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
# The tests start more ranks than cores, perhaps as root in a container.
os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                  PRTE_MCA_rmaps_default_mapping_policy=":oversubscribe",  # Open MPI 5
                  OMPI_MCA_rmaps_base_oversubscribe="1",  # Open MPI 4
                  OMPI_MCA_mpi_yield_when_idle="1")
