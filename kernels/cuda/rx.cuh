// What the kernels are written in: CUDA as NVRTC and nvcc compile it, or the host's stand-in for it (RX_HOST, tests).
//
//   RX_KERNEL(name)(int64 n, ...) { RX_FOREACH(i, n) ... }     a thread an item
//   RX_WARP_KERNEL(name, (int64 n, ...), (n, ...))             a warp an item: name_of<Warp>(item, n, ...), and
//   RX_BLOCK_KERNEL(name, (int64 n, ...), (n, ...))            a block an item: name_of<Block>(item, n, ...);
//                                                              both also make name_plain, one thread an item
// The first argument is always the number of items. RX_CHUNK (items in one partial sum) comes from the compiler's
// command line. No floating-point atomics; multiplications and additions are not fused (--fmad=false) unless
// asked to be, so that a pair is inside a cutoff on every device or on none.
#ifndef RX_CUH
#define RX_CUH

typedef long long int64;
typedef unsigned long long uint64;
typedef int int32;
typedef unsigned int uint32;
typedef unsigned char uint8;

#define RX_THREADS 256  // of a block
#define RX_WARPS (RX_THREADS / 32)
#define RX_EVERY 0xffffffffu  // lanes of a warp

#ifndef RX_HOST
#define RX_ENTRY extern "C" __global__ void __launch_bounds__(RX_THREADS, 4)  // at most 64 registers
#define RX_DEVICE static __device__ __forceinline__
#define RX_METHOD __device__ __forceinline__
#define RX_SHARED(type, name, dimensions) __shared__ type name dimensions
#define RX_PRAGMA(text) _Pragma(#text)
#define RX_UNROLL(times) RX_PRAGMA(unroll times)
#endif

#define RX_KERNEL(name) RX_ENTRY name
#define RX_FOREACH(i, n) \
    for (int64 i = (int64)blockIdx.x * RX_THREADS + threadIdx.x; i < (n); i += (int64)gridDim.x * RX_THREADS)
#define RX_COOPERATIVE(name, first, step, group, parameters, arguments) \
    RX_ENTRY name parameters { \
        for (int64 item = first; item < n; item += step) name##_of<group>(item, RX_LIST arguments); \
    } \
    RX_ENTRY name##_plain parameters { \
        RX_FOREACH(item, n) name##_of<Thread>(item, RX_LIST arguments); \
    }
#define RX_LIST(...) __VA_ARGS__
#define RX_WARP_KERNEL(name, parameters, arguments) \
    RX_COOPERATIVE(name, (int64)blockIdx.x * RX_WARPS + threadIdx.x / 32, (int64)gridDim.x * RX_WARPS, Warp, \
                   parameters, arguments)
#define RX_BLOCK_KERNEL(name, parameters, arguments) \
    RX_COOPERATIVE(name, (int64)blockIdx.x, (int64)gridDim.x, Block, parameters, arguments)

template <class T> using in = const T* __restrict__;
template <class T> using out = T* __restrict__;

// a b + c, where one rounding is wanted
template <class T> RX_DEVICE T fused(T a, T b, T c) {
#ifdef RX_HOST
    return a * b + c;
#else
    return fma(a, b, c);
#endif
}

struct Envelope {
    double value, slope;  // slope: in x
};

// 1 - (p + 1)(p + 2)/2 x^p + p (p + 2) x^(p + 1) - p (p + 1)/2 x^(p + 2), x < 1
RX_DEVICE Envelope envelope_at(double x, double p) {
    const double c0 = 0.5 * (p + 1) * (p + 2), c1 = p * (p + 2), c2 = 0.5 * p * (p + 1), power = exp((p - 1) * log(x));
    return Envelope{1.0 - x * power * (c0 - x * (c1 - x * c2)),
                    -power * (p * c0 - x * ((p + 1) * c1 - x * (p + 2) * c2))};
}

struct Sum {
    template <class T> RX_METHOD T operator()(T a, T b) const { return a + b; }
};
struct Smaller {  // a NaN stays
    RX_METHOD double operator()(double a, double b) const { return b < a || b != b ? b : a; }
};
struct Larger {
    RX_METHOD double operator()(double a, double b) const { return b > a || b != b ? b : a; }
};

// The threads that share one item. reduce: the same value, by the same tree, in every one of them. before: how many of
// lower rank have the flag; total: how many have it.
struct Thread {
    RX_METHOD static int rank() { return 0; }
    RX_METHOD static constexpr int size() { return 1; }
    RX_METHOD static void sync() {}
    RX_METHOD static int before(bool flag, int& total) { total = flag; return 0; }
    template <class T, class Op> RX_METHOD static T reduce(T value, Op) { return value; }
};

struct Warp {
    RX_METHOD static int rank() { return threadIdx.x % 32; }
    RX_METHOD static constexpr int size() { return 32; }
    RX_METHOD static void sync() { __syncwarp(); }
    RX_METHOD static int before(bool flag, int& total) {
        const uint32 flags = __ballot_sync(RX_EVERY, flag);
        total = __popc(flags);
        return __popc(flags & ((1u << rank()) - 1));
    }
    template <class T, class Op> RX_METHOD static T reduce(T value, Op op) {
        for (int step = 16; step; step /= 2) value = op(value, __shfl_xor_sync(RX_EVERY, value, step));
        return value;
    }
};

template <class Op> RX_DEVICE double block_reduce(double value, Op op) {
    RX_SHARED(double, part, [RX_WARPS]);
    value = Warp::reduce(value, op);
    __syncthreads();  // the values of the last call have been read
    if (Warp::rank() == 0) part[threadIdx.x / 32] = value;
    __syncthreads();
    value = part[0];
    for (int w = 1; w < RX_WARPS; ++w) value = op(value, part[w]);
    return value;
}

struct Block {
    RX_METHOD static int rank() { return threadIdx.x; }
    RX_METHOD static constexpr int size() { return RX_THREADS; }
    template <class Op> RX_METHOD static double reduce(double value, Op op) { return block_reduce(value, op); }
};

RX_DEVICE int64 chunk_end(int64 chunk, int64 n) { return (chunk + 1) * RX_CHUNK < n ? (chunk + 1) * RX_CHUNK : n; }

#endif
