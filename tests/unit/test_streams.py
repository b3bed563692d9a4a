"""Random streams: the numbers of their registry are distinct, and the same in every version."""

from rxmdnn import streams

NUMBERS = {
    "VELOCITIES": 1, "LANGEVIN": 2, "VELOCITY_RESCALING": 3, "CELL_RESCALING": 4, "ELECTRONS": 5,
    "RING_VELOCITIES": 8, "RING_BEFORE": 9, "RING_AFTER": 10, "CENTROIDS": 11, "MOMENTUM": 14,
    "REPLICA_VELOCITIES": 40, "REPLICA_LANGEVIN": 41, "REPLICA_VELOCITY_RESCALING": 42,
}


def test_streams_keep_their_numbers_and_share_none():
    found = {name: value for name, value in vars(streams).items() if name.isupper()}
    assert found == NUMBERS
    assert len(set(found.values())) == len(found)
    assert all(0 < number < 2**15 for number in found.values())  # bits that the generator's counter has for it
