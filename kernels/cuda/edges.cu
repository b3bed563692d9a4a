// Edges inside the cutoff, and what is summed over edges.
#include "rx.cuh"

template <class G>
RX_DEVICE void expand_pairs_of(int64 center, int64, in<int64> first, in<int32> neighbor, in<int32> atom,
                               in<int32> image, in<int32> home, out<int32> i, out<int32> j, out<int32> S) {
    for (int64 e = first[center] + G::rank(); e < first[center + 1]; e += G::size()) {
        const int64 row = neighbor[e], other = atom[row];
        i[e] = (int32)center;
        j[e] = (int32)other;
        for (int a = 0; a < 3; ++a) S[3 * e + a] = image[3 * row + a] + home[3 * center + a] - home[3 * other + a];
    }
}

RX_WARP_KERNEL(expand_pairs,
               (int64 n, in<int64> first, in<int32> neighbor, in<int32> atom, in<int32> image, in<int32> home,
                out<int32> i, out<int32> j, out<int32> S),
               (n, first, neighbor, atom, image, home, i, j, S))

template <class G>
RX_DEVICE void count_edges_of(int64 i, int64, in<double> x, in<int32> species, int64 n_species, in<double> cutoff_sq,
                              in<int64> skin_first, in<int32> skin_neighbor, out<int64> slot, out<int64> count) {
    const double xi = x[3 * i], yi = x[3 * i + 1], zi = x[3 * i + 2];
    const int64 stop = skin_first[i + 1];
    in<double> limit = cutoff_sq + n_species * species[i];
    int64 found = 0;
    for (int64 start = skin_first[i]; start < stop; start += G::size()) {
        const int64 e = start + G::rank();
        bool inside = e < stop;
        if (inside) {
            const int64 j = skin_neighbor[e];
            const double dx = x[3 * j] - xi, dy = x[3 * j + 1] - yi, dz = x[3 * j + 2] - zi;
            inside = dx * dx + dy * dy + dz * dz < limit[species[j]];
        }
        int total;
        const int before = G::before(inside, total);
        if (e < stop) slot[e] = inside ? found + before : -1;
        found += total;
    }
    if (G::rank() == 0) count[i] = found;
}

RX_WARP_KERNEL(count_edges,
               (int64 n, in<double> x, in<int32> species, int64 n_species, in<double> cutoff_sq, in<int64> skin_first,
                in<int32> skin_neighbor, out<int64> slot, out<int64> count),
               (n, x, species, n_species, cutoff_sq, skin_first, skin_neighbor, slot, count))

template <class G>
RX_DEVICE void fill_edges_of(int64 i, int64, in<double> x, in<int64> skin_first, in<int32> skin_neighbor,
                             in<int64> first, out<int64> slot, out<int32> center, out<int32> neighbor,
                             out<double> r_ij) {
    for (int64 e = skin_first[i] + G::rank(); e < skin_first[i + 1]; e += G::size()) {
        if (slot[e] < 0) continue;
        const int64 at = first[i] + slot[e], j = skin_neighbor[e];
        slot[e] = at;
        center[at] = (int32)i;
        neighbor[at] = (int32)j;
        for (int a = 0; a < 3; ++a) r_ij[3 * at + a] = x[3 * j + a] - x[3 * i + a];
    }
}

RX_WARP_KERNEL(fill_edges,
               (int64 n, in<double> x, in<int64> skin_first, in<int32> skin_neighbor, in<int64> first,
                out<int64> slot, out<int32> center, out<int32> neighbor, out<double> r_ij),
               (n, x, skin_first, skin_neighbor, first, slot, center, neighbor, r_ij))

template <class G>
RX_DEVICE void assemble_of(int64 i, int64, int64 n_owned, in<double> g_ij, in<int64> first, in<int64> reverse_first,
                           in<int64> reverse, in<int64> slot, out<double> f) {
    double sum[3] = {0.0, 0.0, 0.0};
    if (i < n_owned)
        for (int64 e = first[i] + G::rank(); e < first[i + 1]; e += G::size())
            for (int a = 0; a < 3; ++a) sum[a] += g_ij[3 * e + a];
    for (int64 k = reverse_first[i] + G::rank(); k < reverse_first[i + 1]; k += G::size()) {
        const int64 e = slot[reverse[k]];
        if (e >= 0)
            for (int a = 0; a < 3; ++a) sum[a] -= g_ij[3 * e + a];
    }
    for (int a = 0; a < 3; ++a) {
        sum[a] = G::reduce(sum[a], Sum());
        if (G::rank() == 0) f[3 * i + a] = sum[a];
    }
}

RX_WARP_KERNEL(assemble,
               (int64 n, int64 n_owned, in<double> g_ij, in<int64> first, in<int64> reverse_first, in<int64> reverse,
                in<int64> slot, out<double> f),
               (n, n_owned, g_ij, first, reverse_first, reverse, slot, f))

template <class G>
RX_DEVICE void virial_of(int64 chunk, int64, int64 m, in<double> r_ij, in<double> g_ij, out<double> partial) {
    double sum[9] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    for (int64 e = chunk * RX_CHUNK + G::rank(); e < chunk_end(chunk, m); e += G::size())
        for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b) sum[3 * a + b] -= r_ij[3 * e + a] * g_ij[3 * e + b];
    for (int k = 0; k < 9; ++k) {
        sum[k] = G::reduce(sum[k], Sum());
        if (G::rank() == 0) partial[9 * chunk + k] = sum[k];
    }
}

RX_BLOCK_KERNEL(virial, (int64 n, int64 m, in<double> r_ij, in<double> g_ij, out<double> partial),
                (n, m, r_ij, g_ij, partial))

template <class G>
RX_DEVICE void lennard_jones_of(int64 i, int64, in<double> r_ij, in<int64> first, in<int32> neighbor,
                                in<int32> species, int64 n_species, in<double> epsilon, in<double> sigma,
                                in<double> cutoff, out<double> e_i, out<double> g_ij) {
    const int64 row = n_species * species[i];
    double energy = 0.0;
    for (int64 e = first[i] + G::rank(); e < first[i + 1]; e += G::size()) {
        const int64 pair = row + species[neighbor[e]];
        const double x = r_ij[3 * e], y = r_ij[3 * e + 1], z = r_ij[3 * e + 2];
        const double r_sq = x * x + y * y + z * z;
        if (!(r_sq < cutoff[pair] * cutoff[pair])) {
            for (int a = 0; a < 3; ++a) g_ij[3 * e + a] = 0.0;
            continue;
        }
        const double inv_sq = 1.0 / r_sq, eps = epsilon[pair], s = sigma[pair];
        const double s2 = s * s * inv_sq, s6 = s2 * s2 * s2, ratio = s / cutoff[pair];
        const double c3 = ratio * ratio * ratio, c6 = c3 * c3;
        energy += 2.0 * eps * (s6 * s6 - s6 - c6 * c6 + c6);
        const double slope = -2.0 * eps * (12.0 * s6 * s6 - 6.0 * s6) * inv_sq;
        g_ij[3 * e] = slope * x;
        g_ij[3 * e + 1] = slope * y;
        g_ij[3 * e + 2] = slope * z;
    }
    energy = G::reduce(energy, Sum());
    if (G::rank() == 0) e_i[i] = energy;
}

RX_WARP_KERNEL(lennard_jones,
               (int64 n, in<double> r_ij, in<int64> first, in<int32> neighbor, in<int32> species, int64 n_species,
                in<double> epsilon, in<double> sigma, in<double> cutoff, out<double> e_i, out<double> g_ij),
               (n, r_ij, first, neighbor, species, n_species, epsilon, sigma, cutoff, e_i, g_ij))
