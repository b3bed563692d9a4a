// Positions to cells, and sorting by cell.
#include "rx.cuh"

template <class G>
RX_DEVICE void extent_of(int64 chunk, int64, int64 n_atoms, in<double> x, out<double> low, out<double> high) {
    double lo[3], hi[3];
    for (int a = 0; a < 3; ++a) lo[a] = hi[a] = x[3 * chunk * RX_CHUNK + a];
    for (int64 i = chunk * RX_CHUNK + G::rank(); i < chunk_end(chunk, n_atoms); i += G::size())
        for (int a = 0; a < 3; ++a) {
            lo[a] = Smaller()(lo[a], x[3 * i + a]);
            hi[a] = Larger()(hi[a], x[3 * i + a]);
        }
    for (int a = 0; a < 3; ++a) {
        lo[a] = G::reduce(lo[a], Smaller());
        hi[a] = G::reduce(hi[a], Larger());
    }
    if (G::rank() == 0)
        for (int a = 0; a < 3; ++a) {
            low[3 * chunk + a] = lo[a];
            high[3 * chunk + a] = hi[a];
        }
}

RX_BLOCK_KERNEL(extent, (int64 n, int64 n_atoms, in<double> x, out<double> low, out<double> high),
                (n, n_atoms, x, low, high))

RX_DEVICE int64 slab_number(in<double> x, in<double> origin, in<double> inv_width, int a) {
    return (int64)floor((x[a] - origin[a]) * inv_width[a]);
}

RX_KERNEL(mark_slabs)(int64 n, in<double> x, in<double> origin, in<double> inv_width, int64 n_slabs,
                      out<uint8> occupied) {
    RX_FOREACH(i, n)
        for (int a = 0; a < 3; ++a) occupied[a * n_slabs + slab_number(x + 3 * i, origin, inv_width, a)] = 1;
}

RX_KERNEL(bin_atoms)(int64 n, in<double> x, in<double> origin, in<double> inv_width, in<int32> slab, int64 n_slabs,
                     in<int64> shape, out<int32> cell) {
    RX_FOREACH(i, n) {
        int64 c = 0;
        for (int a = 0; a < 3; ++a)
            c = c * shape[a] + slab[a * n_slabs + slab_number(x + 3 * i, origin, inv_width, a)];
        cell[i] = (int32)c;
    }
}

// Counting sort: count, (scan), scatter in any order, sort inside the keys: the stable sort has one answer.
RX_KERNEL(count_keys)(int64 n, in<int32> key, out<int64> first) {
    RX_FOREACH(i, n) atomicAdd((uint64*)&first[key[i] + 1], 1ull);
}

template <class T> RX_DEVICE void scatter(int64 n, in<int32> key, out<int64> next, out<T> order) {
    RX_FOREACH(i, n) order[atomicAdd((uint64*)&next[key[i]], 1ull)] = (T)i;
}

RX_KERNEL(scatter_int32)(int64 n, in<int32> key, out<int64> next, out<int32> order) { scatter(n, key, next, order); }
RX_KERNEL(scatter_int64)(int64 n, in<int32> key, out<int64> next, out<int64> order) { scatter(n, key, next, order); }

struct ByItem {
    template <class T> RX_METHOD bool operator()(T a, T b) const { return a < b; }
};
struct ByGid {
    const int64* gid;
    RX_METHOD bool operator()(int32 a, int32 b) const { return gid[a] < gid[b]; }
};

template <class T, class Less> RX_DEVICE void order_two(T* item, int64 i, int64 j, int64 n, Less less) {
    if (j < n && less(item[j], item[i])) {
        const T other = item[i];
        item[i] = item[j];
        item[j] = other;
    }
}

// K. E. Batcher's bitonic sort (AFIPS 32, 307, 1968) with every comparison upward, so that it takes any n.
template <class G, class T, class Less> RX_DEVICE void bitonic_sort(T* item, int64 n, Less less) {
    for (int level = 0; (int64)1 << level < n; ++level) {
        const int64 half = (int64)1 << level, pairs = (n + 2 * half - 1) / (2 * half) * half;
        for (int64 t = G::rank(); t < pairs; t += G::size()) {
            const int64 start = t >> level << (level + 1), k = t & (half - 1);
            order_two(item, start + k, start + 2 * half - 1 - k, n, less);
        }
        G::sync();
        for (int s = level - 1; s >= 0; --s) {
            for (int64 t = G::rank(); t < pairs; t += G::size()) {
                const int64 i = (t >> s << (s + 1)) + (t & (((int64)1 << s) - 1));
                order_two(item, i, i + ((int64)1 << s), n, less);
            }
            G::sync();
        }
    }
}

#define RX_STAGE 256  // items that a warp sorts in shared memory

template <class G, class T, class Less> RX_DEVICE void sort_range(T* item, int64 n, Less less) {
    if constexpr (G::size() > 1) {
        RX_SHARED(T, stage, [RX_WARPS][RX_STAGE]);
        if (n <= RX_STAGE) {
            T* mine = stage[threadIdx.x / 32];
            for (int64 k = G::rank(); k < n; k += G::size()) mine[k] = item[k];
            G::sync();
            bitonic_sort<G>(mine, n, less);
            for (int64 k = G::rank(); k < n; k += G::size()) item[k] = mine[k];
            return;  // a lane meets only its own items here and in the next range: no barrier
        }
    }
    bitonic_sort<G>(item, n, less);
}

template <class G, class T> RX_DEVICE void sort_keyed(int64 k, in<int64> first, T* order) {
    sort_range<G>(order + first[k], first[k + 1] - first[k], ByItem());
}

template <class G> RX_DEVICE void sort_keyed_int32_of(int64 k, int64, in<int64> first, int32* order) {
    sort_keyed<G>(k, first, order);
}
template <class G> RX_DEVICE void sort_keyed_int64_of(int64 k, int64, in<int64> first, int64* order) {
    sort_keyed<G>(k, first, order);
}
template <class G>
RX_DEVICE void sort_segments_of(int64 k, int64, in<int64> gid, in<int64> first, int32* order) {
    sort_range<G>(order + first[k], first[k + 1] - first[k], ByGid{gid});
}

RX_WARP_KERNEL(sort_keyed_int32, (int64 n, in<int64> first, out<int32> order), (n, first, order))
RX_WARP_KERNEL(sort_keyed_int64, (int64 n, in<int64> first, out<int64> order), (n, first, order))
RX_WARP_KERNEL(sort_segments, (int64 n, in<int64> gid, in<int64> first, out<int32> order), (n, gid, first, order))

RX_KERNEL(split_positions)(int64 n, in<double> x, in<int32> order, out<double> x_sorted) {
    RX_FOREACH(k, n) {
        const int64 row = order[k];
        for (int a = 0; a < 3; ++a) x_sorted[a * n + k] = x[3 * row + a];
    }
}
