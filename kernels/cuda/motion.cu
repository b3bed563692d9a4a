// Copies and the motion of atoms.
#include "rx.cuh"

RX_KERNEL(pack)(int64 n, in<double> x, in<int64> rows, in<double> shift, out<double> buffer) {
    RX_FOREACH(t, 3 * n) buffer[t] = x[3 * rows[t / 3] + t % 3] + shift[t % 3];
}

// Rows of a halo ascend: an atom's additions are then neighbors in the buffer, and the thread of the first does them.
RX_KERNEL(find_descent)(int64 n, in<int64> rows, out<int64> descends) {
    RX_FOREACH(k, n) if (k > 0 && rows[k] < rows[k - 1]) *descends = 1;
}

RX_KERNEL(unpack_add)(int64 n, in<double> buffer, in<int64> rows, in<int64> descends, double* f) {
    const bool sorted = *descends == 0;
    RX_FOREACH(k, n) {
        if (sorted) {
            const int64 row = rows[k];
            if (k > 0 && rows[k - 1] == row) continue;
            for (int64 j = k; j < n && rows[j] == row; ++j)
                for (int a = 0; a < 3; ++a) f[3 * row + a] += buffer[3 * j + a];
        } else {  // a thread has the rows with one remainder, and looks for them from first to last: slow, but right
            for (int64 j = 0; j < n; ++j)
                if (rows[j] % n == k)
                    for (int a = 0; a < 3; ++a) f[3 * rows[j] + a] += buffer[3 * j + a];
        }
    }
}

RX_KERNEL(kick)(int64 n, in<double> f, in<int32> species, in<double> scale, out<double> v) {
    RX_FOREACH(t, 3 * n) v[t] += f[t] * scale[species[t / 3]];
}

RX_KERNEL(drift)(int64 n, in<double> v, double dt, out<double> x) {
    RX_FOREACH(t, 3 * n) x[t] += v[t] * dt;
}

template <class G>
RX_DEVICE void displacement_of(int64 chunk, int64, int64 n_owned, in<double> x, in<double> x_ref,
                               out<double> partial) {
    double largest = 0.0;
    for (int64 i = chunk * RX_CHUNK + G::rank(); i < chunk_end(chunk, n_owned); i += G::size()) {
        const double dx = x[3 * i] - x_ref[3 * i], dy = x[3 * i + 1] - x_ref[3 * i + 1],
                     dz = x[3 * i + 2] - x_ref[3 * i + 2];
        largest = Larger()(largest, dx * dx + dy * dy + dz * dz);
    }
    largest = G::reduce(largest, Larger());
    if (G::rank() == 0) partial[chunk] = largest;
}

RX_BLOCK_KERNEL(displacement, (int64 n, int64 n_owned, in<double> x, in<double> x_ref, out<double> partial),
                (n, n_owned, x, x_ref, partial))

template <class G>
RX_DEVICE void kinetic_of(int64 chunk, int64, int64 n_owned, in<double> v, in<int32> species, int64 n_species,
                          in<double> mass, double acceleration, out<double> partial) {
    for (int64 s = 0; s < n_species; ++s) {
        double sum[3][3] = {};
        for (int64 i = chunk * RX_CHUNK + G::rank(); i < chunk_end(chunk, n_owned); i += G::size())
            if (species[i] == s)
                for (int a = 0; a < 3; ++a)
                    for (int b = a; b < 3; ++b) sum[a][b] += v[3 * i + a] * v[3 * i + b];
        for (int a = 0; a < 3; ++a)
            for (int b = a; b < 3; ++b) {
                const double value = mass[s] / acceleration * G::reduce(sum[a][b], Sum());
                out<double> tensor = partial + 9 * (chunk * n_species + s);
                if (G::rank() == 0) tensor[3 * a + b] = tensor[3 * b + a] = value;
            }
    }
}

RX_BLOCK_KERNEL(kinetic,
                (int64 n, int64 n_owned, in<double> v, in<int32> species, int64 n_species, in<double> mass,
                 double acceleration, out<double> partial),
                (n, n_owned, v, species, n_species, mass, acceleration, partial))
