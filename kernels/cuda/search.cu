// Neighbor search: count and fill. Atoms are taken in cell order, so that the warps of a block share their candidates.
#include "rx.cuh"

template <class G, bool fills>
RX_DEVICE void search(int64 slot, int64 n_all, in<double> x_sorted, in<int32> order, in<int32> cell,
                      in<int64> cell_first, int64 n_runs, in<int64> runs, int64 n_owned, double reach_sq,
                      in<int64> first, out<int32> neighbor, out<int64> count) {
    const int64 i = order[slot];
    if (i >= n_owned) return;
    const double *X = x_sorted, *Y = X + n_all, *Z = Y + n_all;
    const double x = X[slot], y = Y[slot], z = Z[slot];
    const int64 at = fills ? first[i] : 0, c = cell[i];
    int64 found = 0;
    for (int64 r = 0; r < n_runs; ++r) {
        const int64 stop = cell_first[c + runs[2 * r + 1] + 1];
        for (int64 start = cell_first[c + runs[2 * r]]; start < stop; start += G::size()) {
            const int64 k = start + G::rank();
            bool near = k < stop && k != slot;
            if (near) {
                const double dx = X[k] - x, dy = Y[k] - y, dz = Z[k] - z;
                near = dx * dx + dy * dy + dz * dz < reach_sq;
            }
            int total;
            const int before = G::before(near, total);
            if (fills && near) neighbor[at + found + before] = order[k];
            found += total;
        }
    }
    if (!fills && G::rank() == 0) count[i] = found;
}

template <class G>
RX_DEVICE void count_neighbors_of(int64 slot, int64 n, in<double> x_sorted, in<int32> order, in<int32> cell,
                                  in<int64> cell_first, int64 n_runs, in<int64> runs, int64 n_owned, double reach_sq,
                                  out<int64> count) {
    search<G, false>(slot, n, x_sorted, order, cell, cell_first, n_runs, runs, n_owned, reach_sq, nullptr, nullptr,
                     count);
}

template <class G>
RX_DEVICE void fill_neighbors_of(int64 slot, int64 n, in<double> x_sorted, in<int32> order, in<int32> cell,
                                 in<int64> cell_first, int64 n_runs, in<int64> runs, int64 n_owned, double reach_sq,
                                 in<int64> first, out<int32> neighbor) {
    search<G, true>(slot, n, x_sorted, order, cell, cell_first, n_runs, runs, n_owned, reach_sq, first, neighbor,
                    nullptr);
}

RX_WARP_KERNEL(count_neighbors,
               (int64 n, in<double> x_sorted, in<int32> order, in<int32> cell, in<int64> cell_first, int64 n_runs,
                in<int64> runs, int64 n_owned, double reach_sq, out<int64> count),
               (n, x_sorted, order, cell, cell_first, n_runs, runs, n_owned, reach_sq, count))

RX_WARP_KERNEL(fill_neighbors,
               (int64 n, in<double> x_sorted, in<int32> order, in<int32> cell, in<int64> cell_first, int64 n_runs,
                in<int64> runs, int64 n_owned, double reach_sq, in<int64> first, out<int32> neighbor),
               (n, x_sorted, order, cell, cell_first, n_runs, runs, n_owned, reach_sq, first, neighbor))
