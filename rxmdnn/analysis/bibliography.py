"""Papers of the methods of runs: for each, the methods that it belongs to, what it is for, and its BibTeX entry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper. methods : those for which it is cited; what : why, in a few words; entry : fields of BibTeX"""

    methods: tuple[str, ...]
    what: str
    key: str
    kind: str
    fields: dict[str, str]

    @property
    def bibtex(self) -> str:
        """The entry of BibTeX, below a comment that says what it is for."""
        width = max(map(len, self.fields))
        rows = [f"  {name:<{width}s} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"% {self.what}", f"@{self.kind}{{{self.key},", *rows, "}"])


def _article(methods: str, what: str, key: str, author: str, title: str, journal: str, volume: str, pages: str,
             year: str, doi: str = "") -> Paper:
    fields = {"author": author, "title": title, "journal": journal, "volume": volume, "pages": pages, "year": year}
    return Paper(tuple(methods.split()), what, key, "article", fields | ({"doi": doi} if doi else {}))


JCP = "The Journal of Chemical Physics"
PAPERS: tuple[Paper, ...] = (
    Paper(("rxmdnn",), "the program", "rxmdnn", "software", {
        "author": "{The rxmdnn developers}",
        "title": "rxmdnn: neural-network quantum molecular dynamics by spatial decomposition", "version": "0.1.0"}),
    _article("allegro", "the model: Allegro", "allegro",
             "Musaelian, Albert and Batzner, Simon and Johansson, Anders and Sun, Lixin and Owen, Cameron J. and "
             "Kornbluth, Mordechai and Kozinsky, Boris",
             "Learning local equivariant representations for large-scale atomistic dynamics", "Nature Communications",
             "14", "579", "2023", "10.1038/s41467-023-36329-y"),
    Paper(("legato",), "the model: trained with sharpness-aware minimization", "legato", "inproceedings", {
        "author": "Ibayashi, Hikaru and others",
        "title": "Allegro-Legato: scalable, fast, and robust neural-network quantum molecular dynamics via "
                 "sharpness-aware minimization",
        "booktitle": "High Performance Computing, ISC High Performance 2023", "year": "2023",
        "doi": "10.1007/978-3-031-32041-5_12"}),
    Paper(("zbl",), "short-range nuclear repulsion", "zbl", "book", {
        "author": "Ziegler, J. F. and Biersack, J. P. and Littmark, U.",
        "title": "The Stopping and Range of Ions in Matter", "publisher": "Pergamon", "year": "1985"}),
    _article("nose-hoover", "thermostat: Nosé-Hoover chain", "martyna1996",
             "Martyna, Glenn J. and Tuckerman, Mark E. and Tobias, Douglas J. and Klein, Michael L.",
             "Explicit reversible integrators for extended systems dynamics", "Molecular Physics", "87", "1117--1157",
             "1996", "10.1080/00268979600100761"),
    _article("langevin", "thermostat: Langevin dynamics, BAOAB", "leimkuhler2013",
             "Leimkuhler, Benedict and Matthews, Charles", "Rational construction of stochastic numerical methods for "
             "molecular sampling", "Applied Mathematics Research eXpress", "2013", "34--56", "2013",
             "10.1093/amrx/abs010"),
    _article("svr", "thermostat: stochastic velocity rescaling", "bussi2007",
             "Bussi, Giovanni and Donadio, Davide and Parrinello, Michele",
             "Canonical sampling through velocity rescaling", JCP, "126", "014101", "2007", "10.1063/1.2408420"),
    _article("scr", "barostat: stochastic cell rescaling", "bernetti2020", "Bernetti, Mattia and Bussi, Giovanni",
             "Pressure control using stochastic cell rescaling", JCP, "153", "114107", "2020", "10.1063/5.0020514"),
    _article("scr-shape", "barostat: stochastic cell rescaling of the shape", "deltatto2022",
             "Del Tatto, Vittorio and Raiteri, Paolo and Bernetti, Mattia and Bussi, Giovanni",
             "Molecular dynamics of solids at constant pressure and stress using anisotropic stochastic cell "
             "rescaling", "Applied Sciences", "12", "1139", "2022", "10.3390/app12031139"),
    _article("mtk", "barostat: Martyna-Tobias-Klein", "martyna1994",
             "Martyna, Glenn J. and Tobias, Douglas J. and Klein, Michael L.",
             "Constant pressure molecular dynamics algorithms", JCP, "101", "4177--4189", "1994", "10.1063/1.467468"),
    _article("fire", "minimization: FIRE", "bitzek2006",
             "Bitzek, Erik and Koskinen, Pekka and Gähler, Franz and Moseler, Michael and Gumbsch, Peter",
             "Structural relaxation made simple", "Physical Review Letters", "97", "170201", "2006",
             "10.1103/PhysRevLett.97.170201"),
    _article("fire", "minimization: FIRE, as revised", "guenole2020",
             "Guénolé, Julien and Nöhring, Wolfram G. and Vaid, Aviral and Houllé, Frédéric and Xie, Zhuocheng and "
             "Prakash, Aruna and Bitzek, Erik", "Assessment and optimization of the fast inertial relaxation engine "
             "(FIRE) for energy minimization in atomistic simulations and its implementation in LAMMPS",
             "Computational Materials Science", "175", "109584", "2020", "10.1016/j.commatsci.2020.109584"),
    _article("pile", "path integrals: thermostats of the internal modes (PILE)", "ceriotti2010",
             "Ceriotti, Michele and Parrinello, Michele and Markland, Thomas E. and Manolopoulos, David E.",
             "Efficient stochastic thermostatting of path integral molecular dynamics", JCP, "133", "124104", "2010",
             "10.1063/1.3489925"),
    _article("bcocb", "path integrals: integrator with the Cayley map", "korol2020",
             "Korol, Roman and Rosa-Raíces, Jorge L. and Bou-Rabee, Nawaf and Miller III, Thomas F.",
             "Dimension-free path-integral molecular dynamics without preconditioning", JCP, "152", "104102", "2020",
             "10.1063/1.5134810"),
    _article("suzuki-chin", "path integrals: fourth order", "kapil2016",
             "Kapil, Venkat and Behler, Jörg and Ceriotti, Michele",
             "High order path integrals made easy", JCP, "145", "234103", "2016", "10.1063/1.4971438"),
    _article("rpmd", "ring-polymer molecular dynamics", "craig2004", "Craig, Ian R. and Manolopoulos, David E.",
             "Quantum statistics and classical mechanics: Real time correlation functions from ring polymer molecular "
             "dynamics", JCP, "121", "3368--3373", "2004", "10.1063/1.1777575"),
    _article("trpmd", "thermostatted ring-polymer molecular dynamics", "rossi2014",
             "Rossi, Mariana and Ceriotti, Michele and Manolopoulos, David E.",
             "How to remove the spurious resonances from ring polymer molecular dynamics", JCP, "140", "234116",
             "2014", "10.1063/1.4883861"),
    _article("pacmd", "partially adiabatic centroid molecular dynamics", "hone2006",
             "Hone, Tyler D. and Rossky, Peter J. and Voth, Gregory A.",
             "A comparative study of imaginary time path integral based methods for quantum dynamics", JCP, "124",
             "154103", "2006", "10.1063/1.2186636"),
    _article("contraction", "path integrals: ring-polymer contraction", "markland2008",
             "Markland, Thomas E. and Manolopoulos, David E.",
             "An efficient ring polymer contraction scheme for imaginary time path integral simulations", JCP, "129",
             "024105", "2008", "10.1063/1.2953308"),
    _article("momentum", "momentum distribution by displaced paths", "lin2010",
             "Lin, Lin and Morrone, Joseph A. and Car, Roberto and Parrinello, Michele",
             "Displaced path integral formulation for the momentum distribution of quantum particles",
             "Physical Review Letters", "105", "110602", "2010", "10.1103/PhysRevLett.105.110602"),
    _article("isotope", "isotope fractionation", "cheng2014", "Cheng, Bingqing and Ceriotti, Michele",
             "Direct path integral estimators for isotope fractionation ratios", JCP, "141", "244112", "2014",
             "10.1063/1.4904293"),
    _article("heat_capacity", "heat capacity of quantum nuclei", "yamamoto2005", "Yamamoto, Takeshi M.",
             "Path-integral virial estimator based on the scaling of fluctuation coordinates: Application to quantum "
             "clusters with fourth-order propagators", JCP, "123", "104101", "2005", "10.1063/1.2013257"),
    _article("electrons-langevin", "two-temperature model: electronic friction and noise", "duffy2007",
             "Duffy, D. M. and Rutherford, A. M.",
             "Including the effects of electronic stopping and electron-ion interactions in radiation damage "
             "simulations", "Journal of Physics: Condensed Matter", "19", "016207", "2007",
             "10.1088/0953-8984/19/1/016207"),
    _article("electrons-scaling", "two-temperature model: energy exchange by scaling", "ivanov2003",
             "Ivanov, Dmitriy S. and Zhigilei, Leonid V.",
             "Combined atomistic-continuum modeling of short-pulse laser melting and disintegration of metal films",
             "Physical Review B", "68", "064114", "2003", "10.1103/PhysRevB.68.064114"),
    _article("field", "electric field on Born charges", "nunes2001", "Nunes, R. W. and Gonze, Xavier",
             "Berry-phase treatment of the homogeneous electric field perturbation in insulators",
             "Physical Review B", "63", "155107", "2001", "10.1103/PhysRevB.63.155107"),
    _article("martingale", "monitoring: test martingale", "vovk2021", "Vovk, Vladimir and Wang, Ruodu",
             "E-values: Calibration, combination and applications", "The Annals of Statistics", "49", "1736--1754",
             "2021", "10.1214/20-AOS2020"),
    Paper(("calibration",), "monitoring: tails of scores", "coles2001", "book", {
        "author": "Coles, Stuart", "title": "An Introduction to Statistical Modeling of Extreme Values",
        "publisher": "Springer", "year": "2001", "doi": "10.1007/978-1-4471-3675-0"}),
)
