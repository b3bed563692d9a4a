"""Numbers of the random streams, one for each use, so that no two uses draw the same deviates.

Backends make normal deviates by a counter-based generator (``gaussian``): each is a pure function of (seed, stream,
step, id). Another number for a stream changes the bits of every run that draws from it.
"""

from __future__ import annotations

# Of a run: the id is an atom's gid, or the index of a deviate that belongs to no atom.
VELOCITIES = 1  # dynamics.kinetics: Maxwell-Boltzmann velocities
LANGEVIN = 2  # dynamics.ensembles.langevin: noise of BAOAB, and of the first half of OBABO for centroids
VELOCITY_RESCALING = 3  # dynamics.ensembles.velocity_rescaling: deviates of the kinetic energy
CELL_RESCALING = 4  # dynamics.ensembles.cell_rescaling: noise of the strain
ELECTRONS = 5  # excitation.electrons: noise of the exchange with electrons

# Of ring polymers (ring_polymer.ensemble): the id is gid P + mode; of CENTROIDS the gid.
RING_VELOCITIES = 8  # thermal velocities of the internal modes
RING_BEFORE = 9  # noise of the internal modes before the forces of a step
RING_AFTER = 10  # ... and after them
CENTROIDS = 11  # noise of the second half of OBABO for centroids
MOMENTUM = 14  # ring_polymer.momentum: directions of open paths; the id is the gid

# Of replicas (survival.replicas): the id holds the key of the replica and the atom's number in it.
REPLICA_VELOCITIES = 40
REPLICA_LANGEVIN = 41
REPLICA_VELOCITY_RESCALING = 42
