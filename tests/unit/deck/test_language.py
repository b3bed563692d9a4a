"""Decks: every fault by its text, RXMD's decks unchanged, the echo reads back."""

import pytest
from mpi4py import MPI

from rxmdnn.commands.help import main as help_main
from rxmdnn.commands.run import main as run_main
from rxmdnn.deck.help import WIDTH, help_page
from rxmdnn.deck.language import Keyword, Value, not_negative, parse, positive
from rxmdnn.deck.models import MODEL_KINDS, read_models
from rxmdnn.deck.run import read_run
from rxmdnn.deck.run_table import RUN
from rxmdnn.deck.words import BAROSTATS, EXCITATION, GROUPS, SHAPES
from rxmdnn.errors import InputError

TABLE = (
    Keyword("mode", (Value("kind", ("fast", "slow"), "fast"),), "how"),
    Keyword("time", (Value("dt", "float", unit="fs", check=positive), Value("n", "int", check=not_negative)), "when",
            flags={"--dt": ("dt",)}),
    Keyword("heat", (Value("t", "float", 300.0, "K"), Value("old", "float", None, optional=True)), "temperature"),
    Keyword("out", (Value("xyz", "bool", True), Value("bin", "bool", False)), "what", flags={"--bin|-b": ("bin",)}),
    Keyword("files", (Value("name", "path", ()),), "several", rest=1),
    Keyword("model", (Value("path", "path"), Value("n", "int"), Value("el", "str"), Value("mass", "float")), "models",
            repeats=True, rest=2, count="n"),
    Keyword("charge", (), "charges", unused="there are none"),
)


def read(text, *argv):
    return parse("time 0.5 10\n" + text, "here/x.in", TABLE, argv)


def test_values_defaults_and_fortran_spellings():
    deck = read("heat 1.d-6 <t>  # comment\nout F .TRUE. <xyz> <bin>\ncharge 1 500 1.d-7\n\n# nothing\n")
    assert deck["time"].dt == 0.5 and deck["time"].n == 10 and deck["heat"].t == 1e-6 and deck["heat"].old is None
    assert deck["out"].xyz is False and deck["out"].bin is True and deck["mode"].kind == "fast"
    assert deck["files"].name == () and deck["model"] == [] and not deck["mode"].given and deck["time"].given
    assert deck.notes == ["here/x.in:4: charge: ignored (accepted for compatibility): there are none"]


@pytest.mark.parametrize(("text", "said"), [
    ("tmie 1", "here/x.in:2: tmie: unknown keyword; did you mean 'time'?"),
    ("HEAT 1", "here/x.in:2: HEAT: unknown keyword; did you mean 'heat'?"),
    ("time 1 2", "here/x.in:2: time: given before, on line 1; keep one"),
    ("heat", "here/x.in:2: heat: t is missing; write 'heat <t> [<old>]'"),
    ("heat <t>", "here/x.in:2: heat: t is missing"),
    ("heat 1 2 3", "here/x.in:2: heat: one value too many: '3'"),
    ("heat warm", "here/x.in:2: heat: t must be a number, not 'warm'"),
    ("heat nan", "here/x.in:2: heat: t must be a number, not 'nan'"),
    ("heat 1e999", "here/x.in:2: heat: t = 1e999 is out of range"),
    ("out yes .false.", "here/x.in:2: out: xyz must be a logical (.true. or .false.), not 'yes'"),
    ("mode fats", "here/x.in:2: mode: kind must be one of fast, slow, not 'fats'; did you mean 'fast'?"),
    ("model a 2 H 1.0 N", "here/x.in:2: model: mass 2 is missing"),
    ("model a 2 H 1.0", "here/x.in:2: model: el 2 is missing"),
    ("model a x H 1.0", "here/x.in:2: model: n must be an integer, not 'x'"),
    ("model a 1 H 1.0 7", "here/x.in:2: model: one value too many: '7'"),
])
def test_a_fault_says_where_what_and_what_to_do(text, said):
    with pytest.raises(InputError) as caught:
        read(text)
    assert len(caught.value.faults) == 1 and caught.value.faults[0].startswith(said)


def test_all_faults_at_once():
    with pytest.raises(InputError) as caught:
        parse("heat a b\ntime -1 2.5\nx\n", "x.in", TABLE, ["--dtt", "1", "--bin", "7"])
    assert [f.split(":")[:2] for f in caught.value.faults] == [
        ["x.in", "1"], ["x.in", "2"], ["x.in", "2"], ["x.in", "3"], ["command line", " --dtt"],
        ["command line", " --bin"]]
    assert "dt = -1: must be above zero" in str(caught.value) and "n must be an integer, not '2.5'" in str(caught.value)


def test_faults_stand_in_order_and_a_misspelled_keyword_is_not_missing_too():
    with pytest.raises(InputError) as caught:
        parse("tiem 1 2\nout 1 2\nheat a\n", "x.in", TABLE)
    assert [f.split(":")[1] for f in caught.value.faults] == ["1", "2", "2", "3"]


def test_a_missing_keyword_is_named():
    with pytest.raises(InputError, match=r"^x\.in: time: missing; write 'time <dt> <n>'$"):
        parse("", "x.in", TABLE)
    with pytest.raises(InputError, match=r"^command line: time: missing n; write 'time <dt> <n>'$"):
        parse("", "x.in", TABLE, ["--dt", "1"])


def test_flags_override_the_deck():
    deck = read("heat 5 6\nfiles a b", "--dt", "1.d0", "-b", "--heat", "-7", "--files", "c")
    assert (deck["time"].dt, deck["time"].n, deck["out"].bin, deck["heat"].t) == (1.0, 10, True, -7.0)
    assert [str(f) for f in deck["files"].name] == ["c"]  # of the working directory, not beside the deck
    assert [str(f) for f in read("files a b")["files"].name] == ["here/a", "here/b"]


def test_the_echo_reads_back():
    deck = read('heat 1.d-6 3\nout F T\nfiles a sub/b "my crystal #2.cif"\nmodel m.pt 2 H 1.008 N 14.007\n'
                'model k 1 O 16\nmode slow')
    again = parse(deck.echo(), "here/x.in", TABLE)
    assert again.echo() == deck.echo() and again["heat"].t == 1e-6 and again["files"].name == deck["files"].name
    assert [m.el for m in again["model"]] == [("H", "N"), ("O",)]


def test_help_comes_from_the_table():
    assert "time <dt> <n>" in help_page(TABLE) and "default 300.0" in help_page(TABLE, "heat")
    with pytest.raises(InputError, match="did you mean 'heat'"):
        help_page(TABLE, "haet")
    for keyword in (*RUN, *MODEL_KINDS):
        assert keyword.name in help_page((*RUN, *MODEL_KINDS), keyword.name)


RXMD_DECK = """# RXMD params
mdmode       7                      <mdmode>
time         0.2    50000           <dt> <ntime_step>
temperature  300.0  0.1   4    5.0  <treq> <vsfact> <sstep> <vmag_factor>
io_step      100   1                <fstep>  <pstep>
io_type      .true. .false. .false. .true. <isBinary> <isBondFile> <isPDB> <isXYZ>
processors   1 1 1                  <vprocs>
CG_tol       1.d-6                  <ftol>

# ReaxFF params
QEq          1  500  1.d-7  1       <isQEq> <NMAXQEq> <QEq_tol> <qstep>
exL          1.0  2.0               <Lex_fqs> <Lex_k>
"""


@pytest.fixture
def decks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rxmd.in").write_text(RXMD_DECK)
    (tmp_path / "rxmdnn.in").write_text("## model: element name, AMU\nlj 0.01 2.5 6.0 2  H 1.0  N 14.0  some words\n")
    (tmp_path / "DAT").mkdir()
    (tmp_path / "DAT" / "rxff.bin").write_bytes(b"")
    return tmp_path


def test_a_deck_of_rxmd_runs_unchanged(decks):
    run = read_run([], 1)
    deck = run.deck
    assert (deck["mdmode"].mode, deck["time"].dt, deck["temperature"].sstep, deck["io_type"].isXYZ) == (7, 0.2, 4, True)
    assert run.elements == ("H", "N") and run.masses == (1.0, 14.0) and run.weights == (1.0,)
    assert len(run.notes) == 3 and "vmag" in run.notes[2]
    rare = {k.name for k in RUN if k.group == EXCITATION} | {"pimd_pairs", "pimd_eco", "pimd_estimate", "profile"}
    assert not rare & {line.split()[0] for line in deck.echo().splitlines()}
    (decks / "again.in").write_text(deck.echo())
    assert read_run(["-in", "again.in"], 1).deck.echo() == deck.echo()


def test_flags_of_rxmd(decks):
    argv = ("--mdmode 1 --treq 77 --sstep 5 --fstep 7 --vprocs 1 2 1 --isPDB -o OTHER --run_from_xyz rxmdnn.in "
            "--tramp 10 200 --strain 0.1 0 -.1 --shear 0 0 5 --seed 9 --random_velocity --verbose")
    deck = read_run(argv.split(), 2).deck
    assert deck["temperature"].treq == 77 and deck["temperature"].vsfact == 0.1 and deck["outDir"].folder == "OTHER"
    assert tuple(deck["processors"]) == (1, 2, 1) and deck["io_type"].isPDB and deck["io_type"].isBinary
    assert tuple(deck["tramp"]) == (10, 200) and tuple(deck["strain"]) == (0.1, 0, -0.1) and deck["verbose"].on


@pytest.mark.parametrize(("argv", "said"), [
    (["--mdmode", "2"], "mode = 2: must be one of 0, 1, 4, 5, 6, 7, 8, 9, 10"),
    (["--sstep", "0"], "command line: --sstep: sstep = 0: must be above zero"),
    (["--vprocs", "2", "1", "1"], "processors: 2 x 1 x 1 = 2 ranks, but 1 is running; start with mpirun -np 2"),
    (["--vprocs", "2", "0", "1"], "processors: all three must be above zero, or all three 0"),
    (["--model_weights", "1", "2"], "model_weights: 2 weights for the 1 models"),
    (["--efield", "1", "0.1"], "efield: a field needs charges; write 'charges <element> <q>'"),
    (["--remove_atoms", "1"], "remove_atoms: not available"),
    (["-o", "NEW"], "nothing to start from: no 'NEW/checkpoint.h5', no 'NEW/rxff.bin'"),
    (["--start", "checkpoint"], "start: checkpoint: no file 'DAT/checkpoint.h5'"),
    (["--run_from_xyz", "none.xyz"], "--run_from_xyz: file: no file 'none.xyz'"),
    (["--model", "none.in"], "--model: file: no file 'none.in'"),
    (["-in", "none.in"], "none.in: no such deck"),
    (["-in"], "-in: a file name is missing"),
    (["--ensemble", "langevn", "1"], "kind = langevn: must be one of nve, nose-hoover, langevin, svr; did you mean"),
    (["--ensemble", "nvt", "1"], "kind = nvt: must be one of nve, nose-hoover, langevin, svr"),
    (["--ensemble", "svr", "0"], "tau = 0: must be above zero"),
    (["--ensemble", "svr", "-1"], "tau = -1: must be above zero"),
    (["--ensemble", "svr"], "ensemble: tau is missing; write for example 'ensemble svr 0.1'"),
    (["--ensemble", "nve", "1"], "ensemble: nve has no tau"),
    (["--mdmode", "7", "--ensemble", "svr", "1"], "ensemble: mdmode 7 acts on the velocities too; write mdmode 1"),
    (["--ensemble", "svr", "1", "--treq", "0"], "temperature: an ensemble svr needs a temperature above zero"),
    (["--ensemble", "svr", "1", "--tramp", "0", "9"], "tramp: an ensemble svr needs a temperature above zero"),
    (["--barostat", "scr", "0", "1"], "barostat: needs a thermostat; write for example 'ensemble svr 0.1'"),
    (["--ensemble", "svr", "1", "--barostat", "scr", "0", "0"], "tau_p = 0: must be above zero"),
    (["--ensemble", "svr", "1", "--barostat", "src", "0", "1"], "one of scr, mtk, not 'src'; did you mean 'scr'?"),
    (["--ensemble", "svr", "1", "--barostat", "mtk", "0", "1"], "mtk needs 'ensemble nose-hoover', not svr"),
    (["--ensemble", "svr", "1", "--barostat", "scr", "0", "1", "--strain_ramp", "0.1", "0", "0"],
     "barostat: strain_ramp and shear_ramp prescribe the cell"),
    (["--mdmode", "10", "--shear_ramp", "0", "0", "1"], "mdmode: a minimization does not follow strain_ramp"),
    (["--pramp", "0", "1"], "pramp: needs a line 'barostat"),
    (["--pimd", "0"], "beads = 0: must be at least 1, which is classical"),
    (["--pimd", "8", "rmpd"], "one of pimd, eco, suzuki-chin, rpmd, trpmd, pacmd, not 'rmpd'; did you mean 'rpmd'?"),
    (["--pimd", "8"], "pimd: needs mdmode 1, not 7"),
    (["--pimd", "8"], "pimd: the centroids need a thermostat; write 'ensemble langevin 0.1' (PILE-L) or"),
    (["--pimd", "8", "rpmd", "--ensemble", "svr", "1"], "ensemble: rpmd has no thermostat of the centroids"),
    (["--pimd", "8", "rpmd", "0.5"], "pimd: rpmd has no friction; omit it, or use trpmd"),
    (["--pimd", "8", "trpmd", "--treq", "0"], "temperature: treq must be above zero for a ring polymer"),
    (["--pimd", "8", "trpmd", "--tramp", "10", "20"], "tramp: the springs of a ring polymer are those of one"),
    (["--pimd", "8", "trpmd", "--barostat", "scr", "0", "1"], "barostat: needs a thermostat"),
    (["--pimd", "8", "trpmd", "eco"], "one method per run; economised rings (eco) are for averages alone: write 'pimd"),
    (["--pimd", "8", "eco", "suzuki-chin"], "one method per run; economised rings (eco) are for averages alone"),
    (["--pimd", "8", "eco"], "pimd: the centroids need a thermostat; write 'ensemble langevin 0.1' (PILE-L) or"),
    (["--pimd", "8", "pacmd", "--pimd_eco", "0.1"], "pimd_eco: the frequencies of economised rings are fitted for"),
    (["--pimd_eco", "0.1"], "pimd_eco: needs a line 'pimd <beads> <method>'"),
    (["--pimd", "8", "eco", "-3600"], "number = -3600: must be above zero"),
    (["--pimd_estimate", "heat_capacity", "5"], "needs a line 'pimd <beads> pimd' or 'pimd <beads> eco'"),
    (["--pimd", "8", "trpmd", "--pimd_estimate", "momentum", "5", "H"], "needs a line 'pimd <beads> pimd'"),
    (["--pimd", "8", "--pimd_estimate", "isotope", "5", "H"], "isotope <nstep> <element> <mass of the other isotope"),
    (["--pimd", "8", "--pimd_estimate", "momentum", "5"], "pimd_estimate momentum <nstep> <element> <r_max, Å>'"),
    (["--pimd", "8", "--pimd_estimate", "momentum", "5", "X"], "pimd_estimate: X is not an element of the models: "),
    (["--pimd", "8", "--pimd_estimate", "n(p)", "5"], "quantity must be one of isotope, momentum, heat_capacity, kin"),
    (["--pimd", "8", "--pimd_estimate", "heat_capacity", "5", "--pimd_estimate", "heat_capacity", "9"], "keep one"),
    (["--pimd_dump", "5"], "pimd_dump: needs a line 'pimd <beads> <method>'"),
    (["--pimd", "7", "suzuki-chin"], "pimd: suzuki-chin needs an even number of beads, not 7"),
    (["--pimd", "8", "suzuki-chin"], "pimd: the centroids need a thermostat"),
    (["--pimd", "8", "suzuki-chin", "--pimd_contraction", "3"], "suzuki-chin evaluates all models on all beads"),
    (["--pimd", "8", "--pimd_groups", "2", "--fidelity", "flag"], "rings of method suzuki-chin, or of several pimd_"),
    (["--pimd", "8", "suzuki-chin", "--fidelity", "flag"], "fidelity: rings of method suzuki-chin, or of several"),
    (["--pimd", "8", "--pimd_groups", "3"], "pimd_groups: 3 groups for 8 beads and 1 rank is running: the numb"),
    (["--pimd", "8", "--pimd_groups", "2"], "pimd_groups: 2 groups for 8 beads and 1 rank is running: the numb"),
    (["--pimd_groups", "2"], "pimd_groups: needs a line 'pimd <beads> <method>'"),
    (["--pimd", "8", "--pimd_contraction", "4"], "4 beads: must be odd, or all 8"),
    (["--pimd", "8", "--pimd_contraction", "3"], "1 numbers of beads for 1 model(s); it needs a mixture"),
    (["--pimd_integrator", "bacob"], "name must be one of bcocb, baoab, obabo, not 'bacob'; did you mean 'b"),
    (["--minimizer", "cg", "1e-3", "full"], "minimizer: cg does not change the cell; use fire"),
    (["--minimizer", "fir"], "method must be one of cg, fire, not 'fir'; did you mean 'fire'?"),
])
def test_faults_of_a_run(decks, argv, said):
    with pytest.raises(InputError) as caught:
        read_run(argv, 1)
    assert said in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [
    ("", "m.in: no model; write a line such as 'allegro"),
    ("alegro x 1 H 1.0", "m.in:1: alegro: unknown keyword; did you mean 'allegro'?"),
    ("allegro none.pt 1 H 1.0", "m.in:1: allegro: file: no file"),
    ("lj 1 1 3 2 H 1 H 2", "m.in:1: lj: an element is given twice"),
    ("lj 1 1 3 1 H 1\nnull 3 1 H 2", "m.in:2: null: elements and masses differ from those of"),
    ("lj 1 1 3 1 H -1", "mass = -1: must be above zero"),
])
def test_faults_of_a_model_deck(tmp_path, text, said):
    (tmp_path / "m.in").write_text(text)
    with pytest.raises(InputError) as caught:
        read_models(tmp_path / "m.in")
    assert said in str(caught.value)


def test_model_lines_keep_their_order(tmp_path):
    (tmp_path / "m.in").write_text("null 3 2 H 1 N 14\nlj 1 1 3 2 N 14 H 1\nnull 4 2 H 1 N 14\n")
    lines = read_models(tmp_path / "m.in")
    assert [m.kind for m in lines] == ["null", "lj", "null"] and lines[2].parameters == {"cutoff": 4.0}


def test_help_groups_the_keywords_of_a_run_and_fits_100_columns(capsys):
    assert {k.group for k in RUN} == set(GROUPS)
    help_main([])
    pages = capsys.readouterr().out
    lines = pages[pages.index("rxmd.in") : pages.index("rxmdnn.in\n")].splitlines()
    headings = [k for k, line in enumerate(lines) if line in GROUPS]
    assert [lines[k] for k in headings] == list(GROUPS)
    for start, stop in zip(headings, [*headings[1:], len(lines)]):
        names = {line.split()[0] for line in lines[start + 1 : stop] if line[:2] == "  " and line[2:3].strip()}
        assert names == {k.name for k in RUN if k.group == lines[start]}
    for keyword in ("skin", "barostat", "fidelity", "pimd", "zbl", "optimizer"):
        help_main([keyword])
        page = capsys.readouterr().out
        assert f"{keyword} <" in page and "default" in page
        pages += page
    assert run_main(["--help"], MPI.COMM_SELF) == 0
    pages += capsys.readouterr().out
    assert max(map(len, pages.splitlines())) <= WIDTH


def test_help_describes_each_allowed_word(capsys):
    help_main(["barostat"])
    page = capsys.readouterr().out
    for word, text in (BAROSTATS | SHAPES).items():
        assert f"{word} " in page and text.split(",")[0] in page


def test_help_on_a_keyword_shows_those_that_go_with_it(capsys):
    help_main(["fidelity"])
    page = capsys.readouterr().out
    for name in ("fidelity", "fidelity_watch", "fidelity_limit", "fidelity_calibration", "fidelity_heal"):
        assert f"rxmd.in: {name} <" in page
    help_main(["time"])
    assert capsys.readouterr().out.count("rxmd.in: ") == 1
