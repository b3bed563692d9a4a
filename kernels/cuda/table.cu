// The tabulated two-body part of Allegro: what models/table_kernels.py is on the CPU, where tables and arguments are
// stated. Here `real` is float and double in turn: see __init__.py.
#include "rx.cuh"

// Rows of the edge in a table of n_intervals, its place there, harmonics; with_cut: the envelope and its slope too.
RX_KERNEL(edge_place_real)(int64 n, in<double> r_ij, in<int32> center, in<int32> neighbor, in<int32> species,
                           in<int64> type_of, int64 n_types, in<double> inv_cutoff, in<double> scale,
                           int64 n_intervals, double p, int64 l_max, int64 with_cut, out<int32> row, out<real> place, out<real> slope,
                           out<real> radial_slope, out<real> y, out<real> cut) {
    RX_FOREACH(e, n) {
        const double rx = r_ij[3 * e], ry = r_ij[3 * e + 1], rz = r_ij[3 * e + 2];
        const double r = sqrt(rx * rx + ry * ry + rz * rz);
        const int64 pair = pair_of(e, center, neighbor, species, type_of, n_types);
        const double inv = inv_cutoff[pair], x = r * inv;
        const bool inside = x < 1.0;
        const double t = inside ? n_intervals + scale[pair] * log(x) : 0.0;
        const int64 k = t < 1 ? 0 : t < n_intervals ? (int64)t : n_intervals - 1;
        row[e] = inside ? (int32)((pair * (n_intervals + 1) + k) * 3) : -1;
        place[2 * e] = (real)(t - k);
        place[2 * e + 1] = (real)(scale[pair] / r);
        slope[e] = 0;
        if (with_cut) {
            const Envelope f = envelope_at(inside ? x : 0.5, p);
            cut[e] = inside ? (real)f.value : 0;
            radial_slope[2 * e + 1] = inside ? (real)(f.slope * inv) : 0;
        }
        harmonics_real(rx, ry, rz, r, l_max, y + e * (l_max + 1) * (l_max + 1));
    }
}

// made[e] = the polynomials of the edge's interval at its place; zero at and beyond the cutoff.
template <class G>
RX_DEVICE void table_rows_real_of(int64 e, int64, int64 width_, in<int32> row, in<real> place, in<real> table,
                                  out<real> made) {
    const int width = (int)width_;
    const int64 k = row[e];
    const real early = place[2 * e] < 0 ? place[2 * e] : 0, t = place[2 * e] - early, s = 1 - t, tt = t * t, ss = s * s;
    const real a = ss * s * (1 + 3 * t + 6 * tt), b = ss * s * t * (1 + 3 * t) + early, c = ss * s * tt / 2;
    const real x = tt * t * (1 + 3 * s + 6 * ss), y = -tt * t * s * (1 + 3 * s), z = tt * t * ss / 2;
    in<real> at = table + k * width;
    made += e * width;
    RX_UNROLL(1)
    for (int w = G::rank(); w < width; w += G::size())
        made[w] = k < 0 ? 0
                        : a * at[w] + b * at[width + w] + c * at[2 * width + w] + x * at[3 * width + w] +
                              y * at[4 * width + w] + z * at[5 * width + w];
}

RX_WARP_KERNEL(table_rows_real,
               (int64 n, int64 width, in<int32> row, in<real> place, in<real> table, out<real> made),
               (n, width, row, place, table, made))

// slope[e] += d . d made/dr, made as table_rows gives it.
template <class G>
RX_DEVICE void table_slope_real_of(int64 e, int64, int64 width_, in<int32> row, in<real> place, in<real> table,
                                   in<real> d, real* slope) {
    const int width = (int)width_;
    const int64 k = row[e];
    const real early = place[2 * e] < 0 ? place[2 * e] : 0, t = place[2 * e] - early, s = 1 - t, tt = t * t, ss = s * s;
    const real x = 30 * tt * ss;  // of the difference of the values, formed first: it is small
    const real b = ss * (1 + 2 * t - 15 * tt), c = ss * t * (2 - 5 * t) / 2;
    const real y = tt * (1 + 2 * s - 15 * ss), z = -tt * s * (2 - 5 * s) / 2;
    in<real> at = table + k * width;
    real sum = 0;
    if (k >= 0) {
        RX_UNROLL(1)
        for (int w = G::rank(); w < width; w += G::size())
            sum = fused(d[e * width + w],
                        x * (at[3 * width + w] - at[w]) + b * at[width + w] + c * at[2 * width + w] +
                            y * at[4 * width + w] + z * at[5 * width + w],
                        sum);
    }
    sum = G::reduce(sum, Sum());
    if (G::rank() == 0) slope[e] += sum * place[2 * e + 1];
}

RX_WARP_KERNEL(table_slope_real,
               (int64 n, int64 width, in<int32> row, in<real> place, in<real> table, in<real> d, real* slope),
               (n, width, row, place, table, d, slope))
