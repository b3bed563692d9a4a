"""Labelled frames of every format and boundary; what is refused, what is doubted."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from mpi4py import MPI

from rxmdnn import Calculator
from rxmdnn.backend import make
from rxmdnn.commands import evaluate as evaluate_command
from rxmdnn.commands.check import main as check_main
from rxmdnn.errors import InputError
from rxmdnn.io.labelled_hdf5 import write_labelled_hdf5
from rxmdnn.io.labels import LabelKeys
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.model_file import save_model
from rxmdnn.models.pair import LennardJones
from rxmdnn.training import dataset
from rxmdnn.training.doubts import doubts
from rxmdnn.training.labelled_frames import read, temperature_of
from tests.unit.training.test_training import SMALL, to_frame

DECK = """
data     {}
elements Cu Au
split    0.2 0.0
network  1 1 8 4
mlp      8 1 8
r_max    4.0
model    model.safetensors
"""


def labelled(count=6):
    made = []
    for k in range(count):
        atoms = bulk("Cu", cubic=True, a=3.65)
        atoms[0].symbol = "Au" if k % 2 else "Cu"
        atoms.rattle(0.08, seed=k)
        atoms.calc = EMT()
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        made.append(atoms)
    return made


def write(path, frames):
    ase.io.write(path, frames, parallel=False)
    return path


@pytest.mark.parametrize("name", ["a.traj", "a.json", "a.db", "a.h5", "a_set"])
def test_every_format_gives_the_same_frames(tmp_path, name):
    made = labelled(3)
    if name == "a.h5":
        write_labelled_hdf5(tmp_path / name, made)
    elif name == "a_set":  # extended XYZ of any name
        ase.io.write(tmp_path / name, made, format="extxyz", parallel=False)
    else:
        write(tmp_path / name, made)
    ours = read([tmp_path / name], ("Cu", "Au"))
    for a, b in zip(ours, read([write(tmp_path / "a.xyz", made)], ("Cu", "Au")), strict=True):
        assert (a.species == b.species).all() and a.energy == pytest.approx(b.energy)
        for of in ("x", "cell", "forces", "stress"):
            np.testing.assert_allclose(getattr(a, of), getattr(b, of), atol=1e-7)


def test_open_axes_words_and_heavy_hydrogen(tmp_path):
    """A slab without a vector along its open axis, a molecule, D, a temperature in words, a logical column."""
    (tmp_path / "a.xyz").write_text(
        '2\nLattice="6 0 0 0 6 0 0 0 0" Properties=species:S:1:pos:R:3:forces:R:3:move_mask:L:1 energy=-1 '
        'temperature="300 K" pbc="T T F"\nN 0 0 0 0 0 1 T\nD 5 0 0 0 0 -1 F\n'
        '2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-2 temperature=warm pbc="F F F"\n'
        'N 0 0 0 0 0 1\nH 0 0 1 0 0 -1\n')
    slab, molecule = read([tmp_path / "a.xyz"], ("N", "H"))
    assert slab.species.tolist() == [0, 1] and slab.pbc.tolist() == [True, True, False] and slab.temperature == 300
    assert np.isnan(molecule.temperature) and np.isnan(slab.stress).all()
    data = dataset.with_neighbors([slab, molecule], 2.0)
    i, _, r = data.edges[0]
    assert sorted(zip(i.tolist(), r.tolist())) == [(0, [-1, 0, 0]), (1, [1, 0, 0])]  # across the repeated axis only
    assert len(data.edges[1][0]) == 2


def test_temperature_as_it_is_written():
    for value, kelvin in ((300, 300.0), ("300 K", 300.0), ("1.5e2", 150.0), (np.float64(7), 7.0)):
        assert temperature_of({"temperature": value}) == kelvin
    for value in ("hot", [1, 2], None, "300 C"):
        assert np.isnan(temperature_of({"temperature": value}))


@pytest.mark.parametrize("second", [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [-4.0, 4.0, 0.01]])
def test_atoms_on_one_place_are_refused_with_their_frame(tmp_path, second):
    atoms = Atoms("Ar3", [[0, 0, 0], [2, 2, 2], second], cell=[4, 4, 4], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((3, 3)))
    frames = read([write(tmp_path / "a.xyz", [atoms])], ("Ar",))
    with pytest.raises(InputError, match=r"a.xyz: frame 1: atoms 1 and 3 are on one place"):
        dataset.with_neighbors(frames, 3.0)


@pytest.mark.parametrize("spoil, line", [
    (lambda f: f[3].calc.results["forces"].__setitem__((0, 0), 1e9), r"frame 4: rms force .*\n.*frame 4: a force of"),
    (lambda f: [a.calc.results.__setitem__("forces", 23.06 * 3 * a.calc.results["forces"]) for a in f],
     r"\(and .* more of 6 frames\): rms force .*not kcal/mol"),
    (lambda f: f[1].calc.results.__setitem__("stress", np.full(6, -12.0)), "frame 2: stress 12 eV/Å³, .* not kbar"),
    (lambda f: f[1].calc.results.__setitem__("free_energy", 9.0), "frame 2: energy and free energy .*energy_key free"),
    (lambda f: f[2].calc.results.__setitem__("energy", f[2].calc.results["energy"] - 3000 * len(f[2])),
     "frame 3: 3e\\+03 eV per atom from the usual energy of its composition"),
    (lambda f: None, "^$"),
])
def test_implausible_labels_are_doubted(tmp_path, spoil, line):
    frames = labelled()
    spoil(frames)
    text = "\n".join(doubts(read([write(tmp_path / "a.traj", frames)], ("Cu", "Au"))))
    with pytest.raises(AssertionError, match=line):
        raise AssertionError(text)


@pytest.mark.parametrize("words", [{"kinetic_energy": 1.0, "time_unit": "fs"}, {"model_energy": -3.0},
                                   {"model": "m", "arm": "a", "replica": 0}])
def test_frames_of_a_model_are_refused_by_train_and_evaluate(tmp_path, words):
    frames = labelled()
    frames[2].info |= words
    (tmp_path / "train.in").write_text(DECK.format(write(tmp_path / "a.xyz", frames).name))
    config = AllegroConfig(("Cu", "Au"), 4.0, average_neighbors=10.0, **SMALL)
    save_model(tmp_path / "m.safetensors", AllegroNetwork(config), {})
    with pytest.raises(InputError, match=r"a.xyz: frame 3: its energy and forces are those of a model, not labels"):
        check_main([str(tmp_path / "train.in")])
    with pytest.raises(InputError, match="frame 3: its energy and forces are those of a model"):
        evaluate_command.main([str(tmp_path / "m.safetensors"), str(tmp_path / "a.xyz")])


def test_check_opens_the_data(tmp_path, capsys):
    deck = tmp_path / "train.in"
    for name, put, message in (
            ("bare.xyz", lambda p: write(p, [a.copy() for a in labelled()]), "bare.xyz: frame 1: no energy.*5 more"),
            ("bin.xyz", lambda p: p.write_bytes(bytes(range(256))), "bin.xyz: "),
            ("o.xyz", lambda p: write(p, [_with_oxygen(a) for a in labelled()]), "contains O, not one of")):
        put(tmp_path / name)
        deck.write_text(DECK.format(name))
        with pytest.raises(InputError, match=message):
            check_main([str(deck)])
    write(tmp_path / "good.traj", labelled())
    deck.write_text(DECK.format("good.traj").replace("Cu Au", "Cu Au Ag"))
    check_main([str(deck)])
    out = capsys.readouterr().out
    assert "6 frames (5 training, 1 validation, 0 test) in 6 groups; 6 with a stress" in out
    assert "note: no training frame holds Ag" in out and not (tmp_path / "training").exists()
    deck.write_text(DECK.format("good.traj") + "loss 1 1 1\nhuber_species Zr 0.1\n")
    with pytest.raises(InputError, match="huber_species: Zr: not in the line 'elements'"):
        check_main([str(deck)])


def _with_oxygen(atoms):
    atoms.symbols[1] = "O"
    return atoms


def test_a_group_of_several_kinds_stays_whole():
    atoms = labelled(1)[0]
    frames = [to_frame(_as_cu(atoms), group=f"run{k // 3}", kind=("sample", "before", "failure")[k % 3])
              for k in range(30)]
    parts = dataset.split(frames, 0.2, 0.2, 1)
    groups = [{frames[k].group for k in part} for part in parts]
    assert list(map(len, parts)) == [18, 6, 6] and not groups[0] & groups[1] | groups[0] & groups[2]


def _as_cu(atoms):
    named = atoms.copy()
    named.symbols[:] = "N"
    named.calc = SinglePointCalculator(named, **atoms.calc.results)
    return named


VASPRUN = """<modeling><kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray>
</kpoints><atominfo><atoms>2</atoms><array name="atoms"><set><rc><c>Cu</c></rc><rc><c>Au</c></rc></set></array>
</atominfo><structure name="initialpos">{cell}</structure>
<calculation><structure>{cell}</structure><varray name="forces"><v>0 0 0.5</v><v>0 0 -0.5</v></varray>
<varray name="stress"><v>10 0 0</v><v>0 20 0</v><v>0 0 -30</v></varray>{energy}<scstep>{energy}</scstep></calculation>
</modeling>"""
CELL = """<crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
<varray name="positions"><v>0 0 0</v><v>0.5 0.5 0.5</v></varray>"""
ENERGY = '<energy><i name="e_fr_energy">-7.1</i><i name="e_wo_entrp">-6.9</i><i name="e_0_energy">-7.0</i></energy>'


def test_vasprun_in_ev_and_angstrom(tmp_path):
    """VASP's stress in kbar, compression positive: 10 kB are -0.00624151 eV/Å³."""
    path = tmp_path / "vasprun.xml"
    path.write_text(VASPRUN.format(cell=CELL, energy=ENERGY))
    (frame,) = read([path], ("Au", "Cu"))
    assert frame.species.tolist() == [1, 0] and frame.energy == -7.0 and frame.forces[0, 2] == 0.5
    assert frame.stress.diagonal() == pytest.approx(-0.00624151 * np.array([1, 2, -3]), rel=1e-6)
    (line,) = doubts([frame])
    assert "energy and free energy differ by 50 meV/atom" in line
    (frame,) = read([path], ("Au", "Cu"), keys=LabelKeys("free_energy"))
    assert frame.energy == -7.1 and doubts([frame]) == []


def test_results_of_the_calculator_of_this_program_are_no_labels(tmp_path):
    atoms = bulk("Ar", cubic=True)
    atoms.calc = Calculator(LennardJones(make("cpu"), ("Ar",), epsilon=0.01, sigma=3.4, cutoff=6.0), comm=MPI.COMM_SELF)
    atoms.get_forces()
    ase.io.write(tmp_path / "run.traj", atoms, parallel=False)
    with pytest.raises(InputError, match=r"run.traj: frame 1: its energy and forces are those of a model"):
        read([tmp_path / "run.traj"], ("Ar",))
