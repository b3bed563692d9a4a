"""Heat capacities: energy and temperature are inverse to each other; files of tables and their faults."""

import numpy as np
import pytest

from rxmdnn.errors import InputError
from rxmdnn.excitation.heat_capacity import (
    PER_J_M3,
    ConstantCapacity,
    LinearCapacity,
    TabulatedCapacity,
    read_capacity,
)

T = np.array([0.0, 1.0, 150.0, 300.0, 1000.0, 4999.0, 5000.0, 2e4, 1e5])
TABLE = TabulatedCapacity(np.array([200.0, 1000.0, 5000.0, 20000.0]), np.array([1e-7, 3e-7, 3e-7, 2e-7]))
ALL = pytest.mark.parametrize("c", [ConstantCapacity(2e-6), LinearCapacity(4e-10), TABLE])


@ALL
def test_the_temperature_of_an_energy_is_where_it_was(c):
    np.testing.assert_allclose(c.temperature(c.energy(T)), T, rtol=1e-12)


@ALL
def test_capacity_is_the_slope_of_the_energy(c):
    t, d = T[1:] + 0.5, 1e-3
    np.testing.assert_allclose((c.energy(t + d) - c.energy(t - d)) / (2 * d), c.capacity(t), rtol=1e-6)


@ALL
def test_a_negative_energy_is_a_negative_temperature(c):
    assert c.temperature(np.array([-1e-5]))[0] < 0


def test_a_table_is_read_in_si(tmp_path):
    (tmp_path / "c.txt").write_text("# T_e C_e\n300 2.0e4\n\n1000 6e4  # K, J/(m^3 K)\n")
    c = read_capacity(tmp_path / "c.txt")
    # 4e4 J/(m^3 K) at 650 K; 1 J/m^3 is 6.2415e-12 eV/Å^3
    assert c.capacity(np.array([650.0]))[0] == pytest.approx(4e4 * 6.241509e-12, rel=1e-6)
    assert pytest.approx(6.241509e-12, rel=1e-6) == PER_J_M3


@pytest.mark.parametrize(("text", "message"), [
    ("300 1e4\n200 2e4\n", "c.txt:2: T_e (K) must ascend, but 200 follows 300"),
    ("300 1e4\n400 0\n", "c.txt:2: T_e must be at least 0 and C_e above zero, found '400 0'"),
    ("300 1e4\n400 nan\n", "c.txt:2: expected two finite numbers, T_e (K) and C_e (J/(m^3 K)), found '400 nan'"),
    ("300 1e4\n400\n", "c.txt:2: expected two finite numbers"),
    ("300 1e4\n400 many\n", "c.txt:2: expected two finite numbers"),
    ("300 1e4\n", "c.txt: 1 row(s)"),
])
def test_faults_name_file_and_line(tmp_path, text, message):
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(InputError) as error:
        read_capacity(tmp_path / "c.txt")
    assert message in str(error.value)


def test_a_binary_file_is_no_table(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read: not a text file"):
        read_capacity(tmp_path / "c.txt")
