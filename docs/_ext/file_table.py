"""Every file that the program writes: who writes it, what it is, its columns or datasets.

A name in <> stands for a word of the run: <element>, <step>. ``tests/docs/test_files.py`` compares the table with the
files of runs, and with the lists of columns that the writers themselves have.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One file. columns : (name, unit, meaning) of columns, datasets or keys"""

    name: str
    meaning: str
    columns: tuple[tuple[str, str, str], ...] = ()
    kind: str = "column"


STRESS = tuple((f"stress_{c}_GPa", "GPa", f"component {c} of the stress, tension positive")
               for c in ("xx", "yy", "zz", "yz", "zx", "xy"))
ENERGIES = (
    ("step", "", "number of the step"),
    ("time_fs", "fs", "time of the run"),
    ("etotal_eV", "eV", "kinetic and potential energy"),
    ("kinetic_eV", "eV", "kinetic energy"),
    ("potential_eV", "eV", "potential energy"),
    ("temperature_K", "K", "instantaneous temperature"),
    ("pressure_GPa", "GPa", "(2 K + tr W)/(3 V), a third of minus the trace of the stress"),
    *STRESS,
    ("spread_energy_eV", "eV", "standard deviation of the energy over a committee of models; else nan"),
    ("spread_force_eV_A", "eV/Å", "largest standard deviation of a force over a committee; else nan"),
    ("seconds", "s", "wall time since the start of the command"),
    ("volume_A3", "Å³", "volume of the cell"),
    ("conserved_eV", "eV", "conserved quantity of the ensemble, without the works below"),
    ("work_ensemble_eV", "eV", "of driven runs: what thermostat and barostat have given"),
    ("work_<drive>_eV", "eV", "work of light, field, electrons or surface on the atoms since the start"),
    ("electron_energy_eV", "eV", "energy of the electrons of the line electrons"),
    ("absorbed_electrons_eV", "eV", "light that the electrons have absorbed"),
    ("Te_K", "K", "mean temperature of the electrons"),
    ("Te_min_K", "K", "lowest temperature of a grid cell of electrons"),
    ("Te_max_K", "K", "highest temperature of a grid cell of electrons"),
    ("Ta_K", "K", "temperature of the atoms, without the motion of their grid cells"),
    ("excited_atoms", "", "sum of the weights of the excited state"),
    ("field_<axis>_V_A", "V/Å", "electric field"),
    ("polarization_<axis>_eA", "e Å", "dipole moment of the displacements since the start"),
    ("polarization_<axis>_C_m2", "C/m²", "the same per volume"),
    ("current_<axis>_eA_fs", "e Å/fs", "its rate of change"),
)
XYZ = (
    ("species", "", "element; heavy isotopes as D and T"),
    ("pos", "Å", "position"),
    ("velo", "Å/fs", "velocity"),
    ("momenta", "amu Å/fs in units of ASE", "momentum, which ASE reads"),
    ("masses", "amu", "mass"),
    ("model_forces", "eV/Å", "force of the model"),
    ("id", "", "global number of the atom, kept through the run"),
    ("excitation", "", "weight of the excited state, of runs with a line excite"),
    ("score", "", "of incidents.xyz: score of the atom, 1 at the limit"),
)
H5MD = (
    ("h5md", "", "version, author and creator, as the H5MD standard has them"),
    ("particles/all/position/value", "Å", "(frames, atoms, 3) positions; step and time beside it"),
    ("particles/all/image/value", "", "(frames, atoms, 3) cells that the atom has crossed"),
    ("particles/all/velocity/value", "Å/fs", "(frames, atoms, 3) velocities"),
    ("particles/all/force/value", "kJ/mol/Å", "(frames, atoms, 3) forces"),
    ("particles/all/<value>/value", "", "(frames, atoms) further values, as the excitation"),
    ("particles/all/<value>/step", "", "(frames,) steps of the frames"),
    ("particles/all/<value>/time", "fs", "(frames,) times of the frames"),
    ("particles/all/id", "", "(atoms,) global number of each row"),
    ("particles/all/species", "", "(atoms,) index into parameters/elements"),
    ("particles/all/mass", "amu", "(atoms,) masses"),
    ("particles/all/box", "", "attribute boundary: which axes repeat"),
    ("particles/all/box/edges/value", "Å", "(frames, 3, 3) cell vectors in rows, turned as readers expect"),
    ("particles/all/box/edges/step", "", "(frames,) steps"),
    ("particles/all/box/edges/time", "fs", "(frames,) times"),
    ("particles/all/box/run_edges", "Å", "(frames, 3, 3) cell vectors of the run itself"),
    ("observables/<name>/value", "kJ/mol, K or GPa", "(frames,) kinetic, potential and total energy, temperature, "
                                                      "pressure"),
    ("observables/<name>/step", "", "(frames,) steps"),
    ("observables/<name>/time", "fs", "(frames,) times"),
    ("parameters/elements", "", "(types,) names of the species"),
    ("parameters/masses", "amu", "(types,) masses"),
    ("parameters/stages", "", "the lines of stages.jsonl"),
    ("parameters/healed_steps", "", "(n, 2) first and last step of each healed stretch"),
)
CHECKPOINT = (
    ("header", "", "JSON: version, elements, masses, cell, periodicity, step, time, states of all parts of the run"),
    ("header_crc32", "", "its checksum"),
    ("segments", "", "(ranks, 2) rows of each rank and their checksum"),
    ("gid", "", "(atoms,) global numbers"),
    ("species", "", "(atoms,) indices of elements"),
    ("x", "Å", "(atoms, 3) positions"),
    ("v", "Å/fs", "(atoms, 3) velocities"),
    ("f", "eV/Å", "(atoms, 3) forces"),
    ("image", "", "(atoms, 3) cells crossed"),
    ("extra.<name>", "", "(atoms, ...) what parts of the run keep per atom: ring_u, ring_v, ring_f (modes of ring "
                         "polymers), fidelity_bonds, excitation"),
)
RING = (
    ("step", "", "number of the step"), ("time_fs", "fs", "time of the run"),
    ("kinetic_virial_eV", "eV", "quantum kinetic energy, centroid virial estimator"),
    ("kinetic_primitive_eV", "eV", "quantum kinetic energy, primitive estimator"),
    ("potential_eV", "eV", "mean potential energy of the beads"),
    ("pressure_GPa", "GPa", "virial pressure"),
    ("ring_temperature_K", "K", "temperature of the internal modes, a check of their thermostats"),
    ("potential_thermodynamic_eV", "eV", "of suzuki-chin: thermodynamic estimator of the potential energy"),
    ("kinetic_virial_<element>_eV_per_atom", "eV", "kinetic energy per atom of an element, virial estimator"),
    ("kinetic_primitive_<element>_eV_per_atom", "eV", "the same, primitive estimator"),
    ("gyration_<element>_A", "Å", "root mean square radius of gyration of the rings of an element"),
)
PROFILE = (
    ("step", "", "(frames,) steps"), ("time", "fs", "(frames,) times"),
    ("cell", "Å", "(frames, 3, 3) cell vectors"),
    ("T", "K", "(frames, nx, ny, nz, types) temperatures of the atoms by species"),
    ("count", "", "(frames, nx, ny, nz, types) numbers of atoms"),
    ("T_e", "K", "(frames, nx, ny, nz) temperatures of the electrons"),
)
INCIDENT = (
    ("incident", "", "number, from 1"), ("step", "", "step of the check that found it"),
    ("time_fs", "fs", "its time"), ("action", "", "what the run did: flag, stop, heal"),
    ("events_total", "", "number of atoms or pairs that met a criterion"),
    ("kinds", "", "number of events by criterion"),
    ("frame", "", "whether the frame is in incidents.xyz"),
    ("events", "", "the first events: kind, gid (atom; -1 for the whole system), value, threshold"),
    ("to_step", "", "of heal: the step that the run returned to"),
    ("parts", "", "of heal: parts that a time step is divided into"),
)
RUN = (
    File("run.log", "The log: the effective deck, versions, one line per pstep steps, incidents, performance."),
    File("energies.csv", "One row every pstep steps. The columns from volume_A3 on belong to runs with an ensemble; "
         "those of works, electrons and fields to runs with the lines excite, electrons, charges or field.", ENERGIES),
    File("<step>.xyz", "A frame in extended XYZ, every fstep steps (io_type). Of each atom:", XYZ),
    File("<step>.bin", "A frame in the format of rxff.bin (io_type)."),
    File("<step>.pdb", "A frame in PDB format (io_type)."),
    File("trajectory.xyz", "All frames of a line xyz in one extended XYZ file; columns as in <step>.xyz."),
    File("trajectory.h5md", "All frames of a line h5md, in H5MD 1.1: MDAnalysis, VMD and others read it.", H5MD,
         "dataset"),
    File("bead_<number>.h5md", "Frames of one bead (pimd_dump); datasets as in trajectory.h5md."),
    File("centroid_pairs.xyz", "Centroids and mean forces less the force at the centroid (pimd_pairs); see Te-PIGS."),
    File("ring_polymer.csv", "Estimators of path integrals, one row every pstep steps.", RING),
    File("ring_<quantity>.csv", "Series of a line pimd_estimate; its columns carry element and unit."),
    File("checkpoint.h5", "All that a restart needs, replaced at once; the one before is checkpoint.prev.h5.",
         CHECKPOINT, "dataset"),
    File("checkpoint.prev.h5", "The checkpoint before checkpoint.h5, same datasets."),
    File("rxff.bin", "The final configuration in the binary format of RXMD; rxff.bin.json beside it has what that "
         "format lacks: elements, masses, periodicity, number of atoms."),
    File("rxff.bin.json", "Elements, masses, periodicity and number of atoms of rxff.bin."),
    File("stages.jsonl", "One line of JSON per stage: its first step and all that decides its dynamics: models, "
         "ensemble, time step, temperatures."),
    File("observe.h5", "On-the-fly averages (observe), state included; observe.prev.h5 is the one before."),
    File("observe.prev.h5", "The averages at the checkpoint before."),
    File("gr_observed.csv", "g(r) of a line observe gr: r_A (Å) and g_<element>-<element>."),
    File("profile.h5", "Temperatures on a grid (profile).", PROFILE, "dataset"),
    File("incidents.jsonl", "One line of JSON per incident (fidelity).", INCIDENT, "key"),
    File("incidents.xyz", "The frames of the incidents, for relabelling, with a score per atom."),
    File(".rxmdnn.lock", "Present while a command works in the folder; it ends with the process."),
)
OTHERS = {
    "plot": (
        File("energies.png", "Energies and the conserved quantity with its drift, by stage; healed stretches shaded."),
        File("temperature.png", "Temperature and pressure."),
        File("gr.png", "g(r) of the later half of the run."),
        File("electrons.png", "Temperatures of electrons and atoms, of runs with electrons."),
        File("profile.png", "Temperatures by cell against time."),
        File("momentum_<element>.png", "Momentum distribution; momentum_<element>.csv and "
             "end_to_end_<element>.csv have its numbers."),
    ),
    "structure": (
        File("gr.csv", "Pair distributions and coordination numbers.",
             (("r_A", "Å", "distance"), ("g_<pair>", "", "pair distribution function"),
              ("n_<pair>", "", "number of neighbors within r"))),
        File("bond_length.csv", "Distribution of bond lengths by kind."),
        File("bond_angle.csv", "Distribution of bond angles by kind."),
        File("hydrogen_bonds.csv", "Joint distribution of distance and angle of hydrogen bonds."),
        File("msd.csv", "Mean square displacement.",
             (("time_fs", "fs", "time"), ("msd_<element>_A2", "Å²", "mean square displacement"))),
        File("static.csv", "Structure factor by probe and by pair.",
             (("q_1_A", "1/Å", "wavevector"), ("neutron", "", "S(q) of neutrons"), ("xray", "", "S(q) of x-rays"),
              ("electron", "", "S(q) of electrons"), ("<pair>", "", "partial structure factor"))),
        File("bragg.csv", "Reflections (--cells): intensity, Debye-Waller factor; bragg_time.csv: their decay."),
        File("structure.h5", "All tables, and with --dynamic S(q, ω)."),
        File("delays_<table>.csv", "With --delays: intensities, Debye-Waller factors and others against delay; "
             "delays.h5 has all tables and maps."),
    ),
    "spectra": (
        File("vdos.csv", "Vibrational density of states.",
             (("wavenumber_cm", "1/cm", "wavenumber"), ("energy_meV", "meV", "energy"),
              ("<element>_modes_per_cm", "cm", "density of modes"), ("<element>_error", "cm", "its standard error"),
              ("total_modes_per_cm", "cm", "of all atoms"), ("total_error", "cm", "its standard error"),
              ("neutron_modes_per_cm", "cm", "weighted by cross section over mass"),
              ("neutron_error", "cm", "its standard error"))),
        File("vacf.csv", "Velocity autocorrelation.",
             (("time_fs", "fs", "time"), ("<element>", "", "normalized autocorrelation"),
              ("<element>_error", "", "its standard error"))),
        File("bands.csv", "Bands: mean position, width, peaks (where windows of bands are known)."),
        File("neutron.csv", "Inelastic neutron spectrum: energy_meV and one column per detector bank and order."),
        File("spectra.h5", "All tables and the map S(Q, E)."),
        File("compare.csv", "With --compare: the measured and the computed spectrum."),
    ),
    "phonons": (
        File("bands.csv", "Dispersion: distance_1_A and mode_<number>_cm."),
        File("dos.csv", "Density of states of the harmonic crystal."),
        File("neutron.csv", "With --instrument: neutron spectrum."),
        File("phonopy_params.yaml", "Cell and force constants for phonopy."),
        File("phonons.h5", "Mesh of wavevectors, frequencies and eigenvectors, and the tables."),
    ),
    "polarization": (
        File("polarization.csv", "Polarization of the cell.",
             (("time_ps", "ps", "time"), ("step", "", "step"), ("polarization_<axis>_C_m2", "C/m²", "polarization"))),
        File("topological_charge.csv", "Topological charge of each layer."),
        File("polarization.h5", "Local polarization of every cage and frame."),
        File("polarization.xyz", "Centers of the cages with the local polarization as vectors, for OVITO."),
    ),
    "train": (
        File("metrics.csv", "One row per epoch: losses, errors, learning rate."),
        File("last.pt", "Checkpoint of the training; the same command resumes from it."),
        File("parity.png", "Predicted against labelled energies and forces."),
        File("learning_curve.png", "Losses against epochs."),
    ),
    "tfail": (
        File("results.csv", "One row per run of a study of times to failure.",
             (("run", "", "name of the run"), ("model", "", "model file"), ("arm", "", "training method"),
              ("training_seed", "", "seed of the training"), ("n_atoms", "", "number of atoms"),
              ("temperature_K", "K", "temperature"), ("replica", "", "number of the replica"),
              ("dt_fs", "fs", "time step"), ("check_steps", "", "steps between checks"),
              ("cap_steps", "", "steps after which a run ends without failure"), ("steps", "", "steps taken"),
              ("time_fs", "fs", "time of the end"), ("failed", "", "1: failed; 0: capped"),
              ("criterion", "", "criterion that ended the run"), ("failed_step", "", "step of the failure"),
              ("gid", "", "atom of the failure"), ("value", "", "value of the criterion"),
              ("threshold", "", "its limit"), ("<criterion>_step", "", "first step at which this criterion was met"))),
        File("results.h5", "Thermodynamics and scores of the runs against time."),
        File("failures.xyz", "Frames before failures."),
        File("study.json", "The deck and the models of the study."),
        File("report.json", "Of tfail report: survival, fits and exponents with intervals; km.png, scaling.png, "
             "exponents.png, goodness.png and a CSV file per table."),
        File("true_forces.csv", "Of tfail relabel: true force errors of frames.",
             (("run", "", "name of the run"), ("arm", "", "training method"), ("model", "", "model file"),
              ("kind", "", "sample or frame before a failure"), ("atoms", "", "number of atoms"),
              ("temperature_K", "K", "temperature"), ("step", "", "step"), ("time_fs", "fs", "time"),
              ("atom_ps", "atom ps", "atoms × time"), ("rms_eV_A", "eV/Å", "root mean square force error"),
              ("max_eV_A", "eV/Å", "largest force error"), ("atom_of_max", "", "its atom"),
              ("above_<limit>", "", "number of atoms with a larger error"))),
    ),
    "learn": (
        File("ledger.jsonl", "One line of JSON per finished step of the loop."),
        File("report.html", "The report, one self-contained page."),
    ),
    "fidelity": (
        File("calibration.json", "Limits with a fixed rate of false alarms, from a clean run."),
    ),
    "geninit": (
        File("rxff.bin", "The start in the binary format of RXMD, with rxff.bin.json; geninit.xyz is its text."),
    ),
}
