"""Units: Å, fs, amu, eV and K inside the program; values are converted only where a file is read or written.

Constants are those of CODATA 2018 (exact where the SI defines them).
"""

FS_PER_PS = 1000.0
KB = 8.617333262e-5  # eV/K
ACCELERATION = 9.648533212e-3  # (eV/Å)/amu in Å/fs²
HBAR = 0.6582119569  # eV fs
EV_PER_KCAL_MOL = 0.0433641043
GPA_PER_EV_A3 = 160.2176634  # eV/Å³ in GPa
C_M2_PER_E_A2 = 16.02176634  # C/m² of one e/Å²
RXMD_TIME = 48.88780  # fs: the unit of time of RXMD, Å sqrt(amu/(kcal/mol))
PER_CM = 1.0 / (2.0 * 3.141592653589793 * 2.99792458e-5)  # wave number, 1/cm, of one radian per fs
