// Counter-based random numbers: Philox4x32-10 (J. K. Salmon et al., SC11, doi 10.1145/2063384.2063405).
#include "rx.cuh"

struct Words {
    uint32 w[4];
};

RX_DEVICE Words philox_block(uint32 c0, uint32 c1, uint32 c2, uint32 c3, uint32 k0, uint32 k1) {
    for (int round = 0; round < 10; ++round) {
        const uint64 p0 = (uint64)0xD2511F53u * c0, p1 = (uint64)0xCD9E8D57u * c2;
        c0 = (uint32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32)p1;
        c2 = (uint32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

RX_KERNEL(philox)(int64 n, in<uint32> counter, in<uint32> key, out<uint32> word) {
    RX_FOREACH(i, n) {
        const Words made = philox_block(counter[4 * i], counter[4 * i + 1], counter[4 * i + 2], counter[4 * i + 3],
                                        key[0], key[1]);
        for (int a = 0; a < 4; ++a) word[4 * i + a] = made.w[a];
    }
}

// Two normal deviates from two 53-bit uniforms, the first in (0, 1].
RX_DEVICE void box_muller(Words made, double& first, double& second) {
    const double u0 = (double)((((uint64)made.w[0] << 32 | made.w[1]) >> 11) + 1) * 0x1p-53;
    const double u1 = (double)(((uint64)made.w[2] << 32 | made.w[3]) >> 11) * 0x1p-53;
    const double r = sqrt(-2.0 * log(u0));
    double sine, cosine;
    sincospi(2.0 * u1, &sine, &cosine);
    first = r * cosine;
    second = r * sine;
}

// c2, c3, k0 and k1 are 32-bit words: of step; of step, stream and block; of seed.
RX_KERNEL(gaussian)(int64 n, int64 k0, int64 k1, int64 c2, int64 c3, in<int64> gid, out<double> z) {
    RX_FOREACH(i, n) {
        const uint32 c0 = (uint32)gid[i], c1 = (uint32)((uint64)gid[i] >> 32);
        double unused;
        box_muller(philox_block(c0, c1, (uint32)c2, (uint32)c3, (uint32)k0, (uint32)k1), z[3 * i], z[3 * i + 1]);
        box_muller(philox_block(c0, c1, (uint32)c2, (uint32)c3 | 1u, (uint32)k0, (uint32)k1), z[3 * i + 2], unused);
    }
}
