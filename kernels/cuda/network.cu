// Allegro's network between its matrix products, forward and backward: what models/allegro_kernels.py is on the CPU,
// where equations and arguments are stated. Here `real` is float and double in turn: see __init__.py.
//
// Edges are those of one block of whole centers: arrays of edges begin with its first, and the edges of its center i
// are first[i] - start to first[i + 1] - start. Features are (edge, component, channel); a lane of a warp has a
// channel, so that memory is read and written in rows, and products of tensors never leave the registers. Sums go along
// the edges in order.
#include "rx.cuh"

#ifndef RX_NETWORK
#define RX_NETWORK
constexpr double PI = 3.14159265358979323846;
// Of real harmonics: roots of 3, 5, 15, half that of 7; roots of 35/8, 105, 21/8.
constexpr double S3 = 1.7320508075688772, S5 = 2.23606797749979, S15 = 3.872983346207417, S7 = 1.3228756555322954;
constexpr double A3 = 2.091650066335189, B3 = 10.246950765959598, D3 = 1.620185174601965;

RX_DEVICE int degree(int m) { return (m >= 1) + (m >= 4) + (m >= 9); }  // l of component m

// Number of an edge's ordered pair of types.
RX_DEVICE int64 pair_of(int64 e, in<int32> center, in<int32> neighbor, in<int32> species, in<int64> type_of,
                        int64 n_types) {
    return type_of[species[center[e]]] * n_types + type_of[species[neighbor[e]]];
}
#endif

// Harmonics of a vector of length r.
RX_DEVICE void harmonics_real(double rx, double ry, double rz, double r, int64 l_max, out<real> h) {
    h[0] = 1;
    if (l_max < 1) return;
    const double ux = rx / r, uy = ry / r, uz = rz / r, xx = ux * ux, yy = uy * uy, zz = uz * uz;
    h[1] = (real)(S3 * ux);
    h[2] = (real)(S3 * uy);
    h[3] = (real)(S3 * uz);
    if (l_max < 2) return;
    h[4] = (real)(S15 * ux * uz);
    h[5] = (real)(S15 * ux * uy);
    h[6] = (real)(S5 * (yy - 0.5 * (xx + zz)));
    h[7] = (real)(S15 * uy * uz);
    h[8] = (real)(0.5 * S15 * (zz - xx));
    if (l_max < 3) return;
    h[9] = (real)(A3 * ux * (3 * zz - xx));
    h[10] = (real)(B3 * ux * uy * uz);
    h[11] = (real)(D3 * ux * (4 * yy - xx - zz));
    h[12] = (real)(S7 * uy * (2 * yy - 3 * xx - 3 * zz));
    h[13] = (real)(D3 * uz * (4 * yy - xx - zz));
    h[14] = (real)(0.5 * B3 * uy * (zz - xx));
    h[15] = (real)(A3 * uz * (zz - 3 * xx));
}

// Bessel functions times the envelope, then (with_cut) the envelope and one; slopes, of the envelope too; harmonics.
RX_KERNEL(edge_basis_real)(int64 n, in<double> r_ij, in<int32> center, in<int32> neighbor, in<int32> species,
                           in<int64> type_of, int64 n_types, in<double> inv_cutoff, int64 n_basis, in<double> roots,
                           int64 spline_span, double p, int64 l_max, int64 with_cut, out<real> radial,
                           out<real> radial_slope, out<real> y, out<real> cut) {
    RX_FOREACH(e, n) {
        const double rx = r_ij[3 * e], ry = r_ij[3 * e + 1], rz = r_ij[3 * e + 2];
        const double r = sqrt(rx * rx + ry * ry + rz * rz);
        const double inv = inv_cutoff[pair_of(e, center, neighbor, species, type_of, n_types)];
        const double x = r * inv;
        const bool inside = x < 1.0;
        const Envelope f = envelope_at(inside ? x : 0.5, p);
        real *value = radial + e * (n_basis + 2 * with_cut), *slope = radial_slope + e * (n_basis + with_cut);
        const double width = (double)(spline_span + 1) / n_basis;
        for (int k = 0; k < n_basis; ++k) {
            double sine, cosine;
            if (spline_span >= 0) {  // splines, in place of Bessel functions times envelope
                const double offset = (x - (double)(k - spline_span) / n_basis) / width;
                sincospi(2 * (offset < 0 ? 0.0 : offset < 1 ? offset : 1.0), &sine, &cosine);
                value[k] = inside ? (real)(0.25 * (1 - cosine) * (1 - cosine)) : 0;
                slope[k] = inside ? (real)(PI * (1 - cosine) * sine / width * inv) : 0;
                continue;
            }
            sincospi(roots[k] * x, &sine, &cosine);
            const double s = sine / (PI * x), d_s = (roots[k] * cosine - s) / x;
            value[k] = inside ? (real)(s * f.value) : 0;
            slope[k] = inside ? (real)((d_s * f.value + s * f.slope) * inv) : 0;
        }
        if (with_cut) {
            value[n_basis] = cut[e] = inside ? (real)f.value : 0;
            value[n_basis + 1] = inside ? 1 : 0;
            slope[n_basis] = inside ? (real)(f.slope * inv) : 0;
        }
        harmonics_real(rx, ry, rz, r, l_max, y + e * (l_max + 1) * (l_max + 1));
    }
}

// pre[e] = radial[e] times the matrix of its pair of types; matrices (T, T, n_rows, width).
template <class G>
RX_DEVICE void edge_project_real_of(int64 e, int64, in<int32> center, in<int32> neighbor, in<int32> species,
                                    in<int64> type_of, int64 n_types, int64 n_rows, int64 width, in<real> matrices,
                                    in<real> radial, out<real> pre) {
    in<real> matrix = matrices + pair_of(e, center, neighbor, species, type_of, n_types) * n_rows * width;
    for (int w = G::rank(); w < width; w += G::size()) {
        real sum = 0;
        for (int k = 0; k < n_rows; ++k) sum = fused(radial[e * n_rows + k], matrix[k * width + w], sum);
        pre[e * width + w] = sum;
    }
}

RX_WARP_KERNEL(edge_project_real,
               (int64 n, in<int32> center, in<int32> neighbor, in<int32> species, in<int64> type_of, int64 n_types,
                int64 n_rows, int64 width, in<real> matrices, in<real> radial, out<real> pre),
               (n, center, neighbor, species, type_of, n_types, n_rows, width, matrices, radial, pre))

// What the radial functions make of dE/dr: slope[e], from the gradients of the projection and (with_cut) the envelope.
template <class G>
RX_DEVICE void edge_slope_real_of(int64 e, int64, in<int32> center, in<int32> neighbor, in<int32> species,
                                  in<int64> type_of, int64 n_types, int64 n_basis, int64 with_cut, int64 width,
                                  in<real> matrices, in<real> radial_slope, in<real> d_pre, in<real> d_cut,
                                  out<double> slope) {
    const int64 n_slopes = n_basis + with_cut;
    const int64 n_rows = n_basis + 2 * with_cut;
    in<real> matrix = matrices + pair_of(e, center, neighbor, species, type_of, n_types) * n_rows * width;
    double sum = 0.0;
    for (int k = 0; k < n_slopes; ++k) {
        real dot = 0;
        for (int w = G::rank(); w < width; w += G::size())
            dot = fused(matrix[k * width + w], d_pre[e * width + w], dot);
        sum += (double)dot * radial_slope[e * n_slopes + k];
    }
    sum = G::reduce(sum, Sum());
    if (with_cut) sum += (double)d_cut[e] * radial_slope[e * n_slopes + n_basis];
    if (G::rank() == 0) slope[e] = sum;
}

RX_WARP_KERNEL(edge_slope_real,
               (int64 n, in<int32> center, in<int32> neighbor, in<int32> species, in<int64> type_of, int64 n_types,
                int64 n_basis, int64 with_cut, int64 width, in<real> matrices, in<real> radial_slope, in<real> d_pre,
                in<real> d_cut, out<double> slope),
               (n, center, neighbor, species, type_of, n_types, n_basis, with_cut, width, matrices, radial_slope, d_pre,
                d_cut, slope))

// g_ij = factor (slope u + [1 - u u] q / r), q the gradient with respect to the unit vector u by way of the harmonics.
RX_KERNEL(edge_gradient_real)(int64 n, in<double> r_ij, in<int32> center, in<int32> species, in<int64> type_of,
                              int64 l_max, in<double> slope, in<real> d_y, in<double> factor, out<double> g_ij) {
    RX_FOREACH(e, n) {
        const double rx = r_ij[3 * e], ry = r_ij[3 * e + 1], rz = r_ij[3 * e + 2];
        const double inv_r = 1.0 / sqrt(rx * rx + ry * ry + rz * rz);
        const double ux = rx * inv_r, uy = ry * inv_r, uz = rz * inv_r;
        in<real> d = d_y + e * (l_max + 1) * (l_max + 1);
        double qx = 0.0, qy = 0.0, qz = 0.0;
        if (l_max >= 1) {
            qx = S3 * d[1];
            qy = S3 * d[2];
            qz = S3 * d[3];
        }
        if (l_max >= 2) {
            const double q4 = S15 * d[4], q5 = S15 * d[5], q6 = S5 * d[6], q7 = S15 * d[7], q8 = S15 * d[8];
            qx += q4 * uz + q5 * uy - (q6 + q8) * ux;
            qy += q5 * ux + 2 * q6 * uy + q7 * uz;
            qz += q4 * ux + q7 * uy + (q8 - q6) * uz;
        }
        if (l_max >= 3) {
            const double xx = ux * ux, yy = uy * uy, zz = uz * uz;
            double q = A3 * d[9];
            qx += q * 3 * (zz - xx);
            qz += q * 6 * ux * uz;
            q = B3 * d[10];
            qx += q * uy * uz;
            qy += q * ux * uz;
            qz += q * ux * uy;
            q = D3 * d[11];
            qx += q * (4 * yy - 3 * xx - zz);
            qy += q * 8 * ux * uy;
            qz -= q * 2 * ux * uz;
            q = S7 * d[12];
            qx -= q * 6 * ux * uy;
            qy += q * 3 * (2 * yy - xx - zz);
            qz -= q * 6 * uy * uz;
            q = D3 * d[13];
            qx -= q * 2 * ux * uz;
            qy += q * 8 * uy * uz;
            qz += q * (4 * yy - xx - 3 * zz);
            q = 0.5 * B3 * d[14];
            qx -= q * 2 * ux * uy;
            qy += q * (zz - xx);
            qz += q * 2 * uy * uz;
            q = A3 * d[15];
            qx -= q * 6 * ux * uz;
            qz += q * 3 * (zz - xx);
        }
        const double along = slope[e] - (ux * qx + uy * qy + uz * qz) * inv_r;
        const double scale = factor[type_of[species[center[e]]]];
        g_ij[3 * e] = scale * (along * ux + qx * inv_r);
        g_ij[3 * e + 1] = scale * (along * uy + qy * inv_r);
        g_ij[3 * e + 2] = scale * (along * uz + qz * inv_r);
    }
}

// Component m of the features that enter a layer: harmonics times weights in the first one, v itself in the others.
RX_DEVICE real feature(bool first_layer, in<real> y, in<real> v, int m, int channels, int u) {
    return first_layer ? y[m] * v[degree(m) * channels + u] : v[m * channels + u];
}

// A center's environment (d_env, U), from the rows l_0 on of a (m, a_rows, U). An item is (i, m, u).
RX_KERNEL(layer_environment_real)(int64 n, int64 l_0, in<int64> first, int64 start, in<int32> species,
                                  in<int64> type_of, in<real> norm, int64 channels, int64 d_env, int64 a_rows,
                                  in<real> y, in<real> a, out<real> environment) {
    RX_FOREACH(t, n) {
        const int64 i = t / (d_env * channels), end = first[i + 1] - start;
        const int u = (int)(t % channels), m = (int)(t / channels % d_env), row = (int)l_0 + degree(m);
        real sum = 0;
        for (int64 e = first[i] - start; e < end; ++e)
            sum = fused(y[e * d_env + m], a[(e * a_rows + row) * channels + u], sum);
        environment[t] = sum * norm[type_of[species[i]]];
    }
}

// made (n, n_made, U) = sum of weight given[of] over the terms of each of its rows; given (n, n_given, U). Of the
// environment that is the operator b = sum of C W A, of b's gradient the environment's, but for its norm. An item is
// (i, row, u).
RX_KERNEL(layer_terms_real)(int64 n, int64 channels, int64 n_made, int64 n_given, in<int32> terms, in<int32> of,
                            in<real> weight, in<real> given, out<real> made) {
    RX_FOREACH(t, n) {
        const int u = (int)(t % channels), row = (int)(t / channels % n_made);
        in<real> from = given + t / (n_made * channels) * n_given * channels + u;
        real sum = 0;
        for (int k = terms[row]; k < terms[row + 1]; ++k)
            sum = fused(weight[k * channels + u], from[of[k] * channels], sum);
        made[t] = sum;
    }
}

// V' = b V of an edge, whose center is centers[e] - i0; its scalars in s_next too. Pairs are listed by their component
// of V': the pair, its component of V. v (m, v_rows, U), y (m, y_rows), s_next (m, n_scalars = U or 0).
template <class G>
RX_DEVICE void layer_apply_real_of(int64 e, int64, int64 first_layer, in<int32> centers, int64 i0, int64 channels_,
                                   int64 y_rows, int64 v_rows, int64 d_out, int64 n_scalars, int64 n_pairs,
                                   in<int32> by_m3, in<int32> by_m3_pair, in<int32> by_m3_m1, in<real> y, in<real> v,
                                   in<real> b, out<real> v_next, out<real> s_next) {
    const int channels = (int)channels_;
    y += e * y_rows;
    v += e * v_rows * channels;
    b += (centers[e] - i0) * n_pairs * channels;
    v_next += e * d_out * channels;
    for (int u = G::rank(); u < channels; u += G::size())
        for (int m3 = 0; m3 < d_out; ++m3) {
            real sum = 0;
            for (int k = by_m3[m3]; k < by_m3[m3 + 1]; ++k)
                sum = fused(b[by_m3_pair[k] * channels + u], feature(first_layer, y, v, by_m3_m1[k], channels, u), sum);
            v_next[m3 * channels + u] = sum;
            if (m3 == 0 && n_scalars) s_next[e * n_scalars + u] = sum;
        }
}

RX_WARP_KERNEL(layer_apply_real,
               (int64 n, int64 first_layer, in<int32> centers, int64 i0, int64 channels, int64 y_rows, int64 v_rows,
                int64 d_out, int64 n_scalars, int64 n_pairs, in<int32> by_m3, in<int32> by_m3_pair, in<int32> by_m3_m1,
                in<real> y, in<real> v, in<real> b, out<real> v_next, out<real> s_next),
               (n, first_layer, centers, i0, channels, y_rows, v_rows, d_out, n_scalars, n_pairs, by_m3, by_m3_pair,
                by_m3_m1, y, v, b, v_next, s_next))

// One edge's gradients of weights w (one row an irrep) and harmonics y in the products y w, from g, those of the
// products.
template <class G, class F>
RX_DEVICE void weights_and_harmonics_real(int d, int channels, in<real> y, in<real> w, F g, out<real> d_w, real* d_y) {
    for (int u = G::rank(); u - G::rank() < channels; u += G::size()) {
        const bool live = u < channels;
        real of_weight = 0;
        for (int m = 0; m < d; ++m) {
            const int at = degree(m) * channels + u;
            const real product = live ? g(m, u) : 0, dot = G::reduce(live ? product * w[at] : 0, Sum());
            if (G::rank() == 0) d_y[m] += dot;
            of_weight = fused(y[m], product, of_weight);
            if (m + 1 < d && degree(m + 1) == degree(m)) continue;
            if (live) d_w[at] = of_weight;
            of_weight = 0;
        }
    }
}

// The gradient of V (in the first layer of its weights, and of y) from g (m, d_out, U), that of V'. Pairs are listed by
// their component of V: the pair, its component of V'.
template <class G>
RX_DEVICE void layer_apply_backward_real_of(int64 e, int64, int64 first_layer, in<int32> centers, int64 i0,
                                            int64 channels_, int64 y_rows, int64 v_rows, int64 d_out, int64 n_pairs,
                                            in<int32> by_m1, in<int32> by_m1_pair, in<int32> by_m1_m3, in<real> y,
                                            in<real> v, in<real> b, in<real> g, out<real> d_v, real* d_y) {
    const int channels = (int)channels_;
    b += (centers[e] - i0) * n_pairs * channels;
    g += e * d_out * channels;
    d_v += e * v_rows * channels;
    auto d_feature = [=](int m, int u) {
        real sum = 0;
        for (int k = by_m1[m]; k < by_m1[m + 1]; ++k)
            sum = fused(b[by_m1_pair[k] * channels + u], g[by_m1_m3[k] * channels + u], sum);
        return sum;
    };
    if (first_layer)
        weights_and_harmonics_real<G>((int)y_rows, channels, y + e * y_rows, v + e * v_rows * channels, d_feature, d_v,
                                      d_y + e * y_rows);
    else
        for (int m = 0; m < v_rows; ++m)
            for (int u = G::rank(); u < channels; u += G::size()) d_v[m * channels + u] = d_feature(m, u);
}

RX_WARP_KERNEL(layer_apply_backward_real,
               (int64 n, int64 first_layer, in<int32> centers, int64 i0, int64 channels, int64 y_rows, int64 v_rows,
                int64 d_out, int64 n_pairs, in<int32> by_m1, in<int32> by_m1_pair, in<int32> by_m1_m3, in<real> y,
                in<real> v, in<real> b, in<real> g, out<real> d_v, real* d_y),
               (n, first_layer, centers, i0, channels, y_rows, v_rows, d_out, n_pairs, by_m1, by_m1_pair, by_m1_m3, y,
                v, b, g, d_v, d_y))

// The gradient of a center's operator b (n_pairs, U) from g, that of V': m1 and m3 are the components that a pair
// joins. An item is (i, q, u).
RX_KERNEL(layer_operator_backward_real)(int64 n, int64 first_layer, in<int64> first, int64 start, int64 channels_,
                                        int64 y_rows, int64 v_rows, int64 d_out, int64 n_pairs, in<int32> m1,
                                        in<int32> m3, in<real> y, in<real> v, in<real> g, out<real> d_b) {
    const int channels = (int)channels_;
    RX_FOREACH(t, n) {
        const int64 i = t / (n_pairs * channels), end = first[i + 1] - start;
        const int u = (int)(t % channels), q = (int)(t / channels % n_pairs), from = m1[q], to = m3[q];
        real sum = 0;
        RX_UNROLL(2)
        for (int64 e = first[i] - start; e < end; ++e)
            sum = fused(feature(first_layer, y + e * y_rows, v + e * v_rows * channels, from, channels, u),
                        g[(e * d_out + to) * channels + u], sum);
        d_b[t] = sum;
    }
}

// The gradients of an edge's weights in its center's environment and of y, from that of the environment but for its
// norm.
template <class G>
RX_DEVICE void layer_weights_backward_real_of(int64 e, int64, int64 l_0, in<int32> centers, int64 i0,
                                              in<int32> species, in<int64> type_of, in<real> norm, int64 channels_,
                                              int64 d_env, int64 a_rows, in<real> y, in<real> a, in<real> environment,
                                              out<real> d_a, real* d_y) {
    const int channels = (int)channels_;
    const real scale = norm[type_of[species[centers[e]]]];
    environment += (centers[e] - i0) * d_env * channels;
    const int64 row = (e * a_rows + l_0) * channels;
    weights_and_harmonics_real<G>((int)d_env, channels, y + e * d_env, a + row,
                                  [=](int m, int u) { return scale * environment[m * channels + u]; }, d_a + row,
                                  d_y + e * d_env);
}

RX_WARP_KERNEL(layer_weights_backward_real,
               (int64 n, int64 l_0, in<int32> centers, int64 i0, in<int32> species, in<int64> type_of, in<real> norm,
                int64 channels, int64 d_env, int64 a_rows, in<real> y, in<real> a, in<real> environment, out<real> d_a,
                real* d_y),
               (n, l_0, centers, i0, species, type_of, norm, channels, d_env, a_rows, y, a, environment, d_a, d_y))

// e_i = shift + factor times the sum of its edges, in float64
template <class G>
RX_DEVICE void sum_edges_real_of(int64 i, int64, in<int64> first, int64 start, in<int32> species, in<int64> type_of,
                                 in<real> e_ij, in<double> factor, in<double> shift, out<double> e_i) {
    double sum = 0.0;
    for (int64 e = first[i] - start + G::rank(); e < first[i + 1] - start; e += G::size()) sum += e_ij[e];
    sum = G::reduce(sum, Sum());
    const int64 type = type_of[species[i]];
    if (G::rank() == 0) e_i[i] = shift[type] + factor[type] * sum;
}

RX_WARP_KERNEL(sum_edges_real,
               (int64 n, in<int64> first, int64 start, in<int32> species, in<int64> type_of, in<real> e_ij,
                in<double> factor, in<double> shift, out<double> e_i),
               (n, first, start, species, type_of, e_ij, factor, shift, e_i))

// sums[i] = the columns of h (m, stride) from begin on, summed over the edges of i in float64
template <class G>
RX_DEVICE void sum_columns_real_of(int64 i, int64, in<int64> first, int64 start, int64 stride, int64 begin,
                                   int64 width, in<real> h, out<double> sums) {
    for (int64 c = G::rank(); c < width; c += G::size()) {
        double sum = 0.0;
        for (int64 e = first[i] - start; e < first[i + 1] - start; ++e) sum += h[e * stride + begin + c];
        sums[i * width + c] = sum;
    }
}

RX_WARP_KERNEL(sum_columns_real,
               (int64 n, in<int64> first, int64 start, int64 stride, int64 begin, int64 width, in<real> h,
                out<double> sums),
               (n, first, start, stride, begin, width, h, sums))

// made[e, to + c] = cut[e] source[e, from + c]; both may be one array. An item is (e, c).
RX_KERNEL(scale_rows_real)(int64 n, int64 width, in<real> cut, const real* source, int64 source_stride, int64 from,
                           real* made, int64 made_stride, int64 to) {
    RX_FOREACH(t, n) {
        const int64 e = t / width, c = t % width;
        made[e * made_stride + to + c] = cut[e] * source[e * source_stride + from + c];
    }
}

// The gradients of that: d_source set or (adds) added to, d_cut added to
template <class G>
RX_DEVICE void scale_rows_backward_real_of(int64 e, int64, int64 adds, int64 width, in<real> cut, const real* source,
                                           int64 source_stride, int64 from, const real* d_made, int64 made_stride,
                                           int64 to, real* d_source, out<real> d_cut) {
    double dot = 0.0;
    for (int64 c = G::rank(); c < width; c += G::size()) {
        const real d = d_made[e * made_stride + to + c];
        const int64 at = e * source_stride + from + c;
        dot += (double)d * source[at];
        d_source[at] = adds ? fused(cut[e], d, d_source[at]) : cut[e] * d;
    }
    dot = G::reduce(dot, Sum());
    if (G::rank() == 0) d_cut[e] += (real)dot;
}

RX_WARP_KERNEL(scale_rows_backward_real,
               (int64 n, int64 adds, int64 width, in<real> cut, const real* source, int64 source_stride, int64 from,
                const real* d_made, int64 made_stride, int64 to, real* d_source, out<real> d_cut),
               (n, adds, width, cut, source, source_stride, from, d_made, made_stride, to, d_source, d_cut))
