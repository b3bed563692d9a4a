"""Local polarization against exact answers, topological charge of known textures, loops, and the command."""

import h5py
import numpy as np
import pytest

from rxmdnn.analysis.polarization import Cages, Layers, charge_tensors
from rxmdnn.analysis.polarization_series import in_layers, loop_of
from rxmdnn.analysis.topology import solid_angle, topological_charge
from rxmdnn.cell import Cell
from rxmdnn.commands import polarization
from rxmdnn.errors import InputError
from tests.trajectories import write

E_A2 = 16.02176634  # C/m^2
UNIT = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
NAMES = ["Pb", "Ti", "O", "O", "O"]
BORN = np.array([3.9, 7.06, 0, 0, 0])[:, None, None] * np.eye(3)
BORN[2:] = np.where(np.eye(3)[[2, 1, 0]][:, :, None] * np.eye(3), -5.84, -2.56 * np.eye(3))  # sums to zero
MASS = np.array([207.2, 47.867, 16.0, 16.0, 16.0])


def crystal(nx, ny, nz, a=3.9, c=4.1):
    """Cell, fractional coordinates, names and tensors of an ideal PbTiO3."""
    shift = np.array(list(np.ndindex(nx, ny, nz)))
    s = ((shift[:, None] + UNIT) / [nx, ny, nz]).reshape(-1, 3)
    cell = Cell(np.diag([nx * a, ny * a, nz * c]) + 0.2 * np.eye(3, k=-1))
    return cell, s, np.array(NAMES * len(shift)), np.tile(BORN, (len(shift), 1, 1))


def cages_of(cell, s, names):
    return Cages.of(names, s @ cell.h, cell, ["Ti"], [(["O"], 6), (["Pb"], 8)])


@pytest.mark.parametrize("size", [(2, 3, 2), (1, 1, 1), (3, 3, 4)])
def test_a_displaced_crystal_has_its_polarization_in_every_cage(size):
    cell, s, names, z = crystal(*size)
    cages = cages_of(cell, s, names)
    assert cages.weight[names == "Pb"] == pytest.approx(1 / 8)
    assert cages.weight[names == "O"] == pytest.approx(1 / 2)
    np.testing.assert_allclose(cages.charge(z), 0.0, atol=1e-12)
    assert np.abs(cages.polarization(s, cell.h, z)).max() < 1e-12
    u = np.random.default_rng(1).normal(size=(5, 3)) * 0.1
    moved = s + np.tile(u, (len(s) // 5, 1)) @ cell.inverse + np.random.default_rng(2).integers(-3, 4, s.shape)
    exact = np.einsum("jab,ja->b", BORN, u) / (cell.volume / (len(s) // 5)) * E_A2
    np.testing.assert_allclose(cages.polarization(moved, cell.h, z), np.tile(exact, (len(s) // 5, 1)), atol=1e-11)


def test_the_mean_over_the_cages_is_the_polarization_of_the_cell():
    cell, s, names, z = crystal(3, 2, 2)
    z = z + 0.3 * np.random.default_rng(3).normal(size=z.shape)  # cages that are not neutral
    u = 0.2 * np.random.default_rng(4).normal(size=(2, *s.shape))
    h = np.stack([cell.h, cell.h @ (np.eye(3) + 0.02)])
    cages = cages_of(cell, s, names)
    p = cages.from_reference(u, h, z).mean(axis=1)
    for k in range(2):
        exact = np.einsum("jab,ja->b", z, u[k]) / np.linalg.det(h[k]) * E_A2
        np.testing.assert_allclose(p[k], exact, rtol=1e-12)


def test_both_references_agree_for_neutral_cages():
    cell, s, names, z = crystal(3, 2, 2)
    cages, u = cages_of(cell, s, names), 0.1 * np.random.default_rng(4).normal(size=s.shape)
    np.testing.assert_allclose(cages.polarization(s + u @ cell.inverse, cell.h, z),
                               cages.from_reference(u, cell.h, z), atol=1e-11)


def test_atoms_that_are_not_a_shell_are_refused():
    cell, s, names, _ = crystal(2, 2, 2)
    with pytest.raises(InputError, match=r"the 5 O nearest to atom 2 are not a shell: the last is at 2.05 Å"):
        Cages.of(names, s @ cell.h, cell, ["Ti"], [(["O"], 5)])
    with pytest.raises(InputError, match="no atom of Zr; the elements are O, Pb, Ti"):
        Cages.of(names, s @ cell.h, cell, ["Zr"], [(["O"], 6)])
    with pytest.raises(InputError, match="no charge of O; write --charges"):
        charge_tensors(names, {"Pb": np.eye(3), "Ti": np.eye(3)})


# ---------------------------------------------------------------------- topology
def skyrmion(n, turns=1, radius=9.0, center=(0.3, 0.4)):
    """(n, n, 3) vectors down in the middle and up outside, with a vorticity of ``turns``."""
    i, j = np.meshgrid(np.arange(n) - n / 2 + center[0], np.arange(n) - n / 2 + center[1], indexing="ij")
    r, phi = np.hypot(i, j), np.arctan2(j, i) * turns + 0.7
    theta = np.pi * np.clip(1.0 - r / radius, 0.0, 1.0)
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)


@pytest.mark.parametrize("turns", [1, -1, 2])
def test_a_skyrmion_has_an_integer_charge(turns):
    texture = skyrmion(24, turns) * (1.0 + 0.5 * np.random.default_rng(1).random((24, 24, 1)))
    charge = topological_charge(texture)
    assert charge == pytest.approx(-turns, abs=1e-3)
    assert topological_charge(texture * [1, 1, -1]) == pytest.approx(turns, abs=1e-3)
    assert topological_charge(np.roll(texture, (5, 11), axis=(0, 1))) == pytest.approx(charge, abs=1e-12)
    assert topological_charge(texture, (False, False)) == pytest.approx(-turns, abs=1e-3)  # all of it is inside


def test_charges_of_stacks_and_of_uniform_layers():
    stack = np.stack([skyrmion(20), np.tile([0.1, 0.0, 1.0], (20, 20, 1))])
    np.testing.assert_allclose(topological_charge(stack), [-1, 0], atol=1e-10)
    x, y, z = np.eye(3)
    assert solid_angle(x, y, z) == pytest.approx(np.pi / 2)  # an octant
    assert solid_angle(y, x, z) == pytest.approx(-np.pi / 2)


def test_centers_on_a_grid_and_layers_across_each_axis():
    cell, s, names, _ = crystal(3, 2, 4)
    site = s[names == "Ti"]
    order = np.random.default_rng(5).permutation(len(site))
    site = site[order] + 0.02 * np.random.default_rng(6).normal(size=site.shape) / [3, 2, 4]
    layers = Layers.of(site % 1.0, cell.h)
    assert layers.shape == (3, 2, 4)
    cellular = np.floor(site % 1.0 * [3, 2, 4])
    on_grid = layers.on_grid(cellular)
    np.testing.assert_array_equal(on_grid, np.stack(np.meshgrid(*map(np.arange, (3, 2, 4)), indexing="ij"), axis=-1))
    for normal in range(3):
        stacked = in_layers(on_grid, normal)
        assert stacked.shape[:3] == tuple((3, 2, 4)[(normal + k) % 3] for k in range(3))
        assert (stacked[1, ..., normal] == 1).all() and (stacked[:, :, 1, (normal + 2) % 3] == 1).all()
    assert Layers.of(np.random.default_rng(7).random((24, 3)), cell.h) is None


# ---------------------------------------------------------------------- loops and the command
def test_a_loop_crosses_zero_where_it_should():
    t = np.linspace(0, 2, 2001)
    e = 0.1 * np.sin(2 * np.pi * t)
    p = np.tanh((0.1 * np.sin(2 * np.pi * t - 0.5)) / 0.03)
    energies = {"step": np.arange(2001), "time_fs": 1000 * t}
    energies |= {f"field_{a}_V_A": e if a == "z" else 0 * e for a in "xyz"}
    energies |= {f"polarization_{a}_C_m2": p if a == "z" else 0 * p for a in "xyz"}
    loop = loop_of(energies)
    assert loop.axis == 2 and not loop.absolute
    numbers = type(loop)(2, loop.time, loop.field, loop.polarization, True).numbers()
    coercive = 0.1 * np.sin(0.5)
    np.testing.assert_allclose(np.abs(numbers["fields_at_zero_polarization_V_A"]), coercive, rtol=1e-3)
    assert loop_of({**energies, "field_z_V_A": 0 * e}) is None


def made_run(tmp_path, p_z):
    """A run whose frames are displaced along z, by charges of elements, polarization p_z[k] in C/m²."""
    cell, s, names, _ = crystal(2, 2, 2)
    x = np.repeat((s @ cell.h)[None], len(p_z), axis=0)
    x[:, names == "Ti", 2] += np.array(p_z)[:, None] / E_A2 * cell.volume / 8 / 7.0
    return write(tmp_path / "run", names, np.tile(MASS, 8), x, cell=cell, dt=500.0)


def test_the_command_writes_maps_and_numbers(tmp_path, capsys):
    run = made_run(tmp_path, [0.0, 0.3, 0.5])
    fields = ",".join(f"field_{a}_V_A" for a in "xyz")
    columns = ",".join(f"polarization_{a}_C_m2" for a in "xyz")
    rows = "".join(f"{2 * k},{500.0 * k},0,0,{0.01 * k},0,0,{p - 0.1}\n" for k, p in enumerate([0.0, 0.3, 0.5]))
    (run / "energies.csv").write_text(f"step,time_fs,{fields},{columns}\n{rows}")
    polarization.main([str(run), "--charges", "Pb=4", "Ti=7", "O=-3.6666666666666667", "--json", str(run / "n.json")])
    said = capsys.readouterr().out
    assert "cages: 8" in said and "largest_field_V_A: 0.02" in said
    with h5py.File(run / "polarization.h5") as file:
        p = file["cages/polarization"][:]
        np.testing.assert_allclose(p[..., 2], np.tile([[0.0], [0.3], [0.5]], 8), atol=1e-6)
        assert np.abs(p[..., :2]).max() < 1e-6 and file["cages/polarization"].attrs["unit"] == "C m-2"
    table = np.genfromtxt(run / "polarization.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["polarization_z_C_m2"], [0.0, 0.3, 0.5], atol=1e-6)
    for name in ("polarization.png", "polarization_map.png", "hysteresis.png", "topological_charge.csv", "n.json"):
        assert (run / name).stat().st_size > 0
    lines = (run / "polarization.xyz").read_text().splitlines()
    assert lines[0] == "8" and "polarization:R:3" in lines[1] and len(lines) == 30


def test_a_reference_and_charges_from_a_file(tmp_path, capsys):
    run, (cell, s, names, z) = made_run(tmp_path, [0.0, 0.4]), crystal(2, 2, 2)
    rows = "".join(f"{n} {a} {b} {c} {' '.join(map(str, t.ravel()))}\n"
                   for n, (a, b, c), t in zip(names, s @ cell.h, z))
    (tmp_path / "ideal.xyz").write_text(f'40\nLattice="{" ".join(map(str, cell.h.ravel()))}" '
                                        f'Properties=species:S:1:pos:R:3:born_charges:R:9 pbc="T T T"\n{rows}')
    polarization.main([str(run), "--charges", str(tmp_path / "ideal.xyz"), "--reference", str(tmp_path / "ideal.xyz"),
                       "-o", str(tmp_path / "out")])
    capsys.readouterr()
    with h5py.File(tmp_path / "out/polarization.h5") as file:
        np.testing.assert_allclose(file["cages/polarization"][1, :, 2], 0.4 * 7.06 / 7.0, atol=1e-5)


@pytest.mark.parametrize(("argv", "said"), [
    ([], "no checkpoint that holds charges; write --charges"),
    (["--charges", "Pb=two"], "--charges Pb=two: write <element>=<charge>, or one file"),
    (["--charges", "Pb=2", "Ti=4"], "no charge of O; write --charges O=<q>"),
    (["--charges", "Pb=2", "Ti=4", "O=-2", "--cage", "O6"], "--cage O6: write for example --cage O=6"),
    (["--charges", "Pb=2", "Ti=4", "O=-2", "--center", "Zr"], "no atom of Zr"),
    (["--frames", "0"], "--frames: must be above zero"),
])
def test_faults_of_the_command(tmp_path, argv, said):
    run = made_run(tmp_path, [0.0])
    with pytest.raises(InputError) as error:
        polarization.main([str(run), *argv])
    assert said in str(error.value)
