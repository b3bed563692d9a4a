// Screened repulsion of nuclei: models/repulsion.py, where constants and sources are.
#include "rx.cuh"

// Adds to e_i and g_ij half the energy of each pair, scale / r psi(r inv_length) u(r inv_cutoff), and its gradient.
// pairs (T, T, 3): scale, inv_length, inv_cutoff; psi(x) is the sum of c exp(d x) over the four terms (c, d), u the
// envelope of power p.
template <class G>
RX_DEVICE void add_zbl_of(int64 i, int64, in<double> r_ij, in<int64> first, in<int32> neighbor, in<int32> species,
                          int64 n_species, in<double> pairs, in<double> terms, double p, out<double> e_i,
                          out<double> g_ij) {
    double energy = 0.0;
    for (int64 e = first[i] + G::rank(); e < first[i + 1]; e += G::size()) {
        in<double> pair = pairs + 3 * (species[i] * n_species + species[neighbor[e]]);
        double r = 0.0;
        for (int a = 0; a < 3; ++a) r += r_ij[3 * e + a] * r_ij[3 * e + a];
        r = sqrt(r);
        const double inv_length = pair[1], inv_cutoff = pair[2];
        if (!(r * inv_cutoff < 1.0)) continue;
        const Envelope u = envelope_at(r * inv_cutoff, p);
        double psi = 0.0, d_psi = 0.0;
        RX_UNROLL(1)
        for (int k = 0; k < 4; ++k) {
            const double part = terms[2 * k] * exp(terms[2 * k + 1] * inv_length * r);
            psi += part;
            d_psi += terms[2 * k + 1] * inv_length * part;
        }
        const double inv_r = 1.0 / r, bare = pair[0] * inv_r, value = bare * psi * u.value;
        energy += value;
        const double slope = (bare * (d_psi * u.value + psi * u.slope * inv_cutoff) - value * inv_r) * inv_r;
        for (int a = 0; a < 3; ++a) g_ij[3 * e + a] += slope * r_ij[3 * e + a];
    }
    energy = G::reduce(energy, Sum());
    if (G::rank() == 0) e_i[i] += energy;
}

RX_WARP_KERNEL(add_zbl,
               (int64 n, in<double> r_ij, in<int64> first, in<int32> neighbor, in<int32> species, int64 n_species,
                in<double> pairs, in<double> terms, double p, out<double> e_i, out<double> g_ij),
               (n, r_ij, first, neighbor, species, n_species, pairs, terms, p, e_i, g_ij))
