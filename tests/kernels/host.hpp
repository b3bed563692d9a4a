// The host's stand-in for CUDA, under the same text of the kernels. Threads and blocks run one after another, the last
// first, since the device promises no order. The threads of a kernel that cooperates are light fibers: each runs to its
// next barrier or warp function and waits there for the others; one that not all of its warp or block reach is
// reported. Shared memory starts every block filled with rubbish.
#define RX_HOST
#define RX_ENTRY extern "C" void
#define RX_DEVICE static inline
#define RX_METHOD inline
#define RX_UNROLL(times)
#define RX_SHARED(type, name, dimensions) \
    static type name dimensions; \
    [[maybe_unused]] static const bool name##_is_known = host::shared.push(&name, sizeof name)

#include <cmath>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <utility>
#include <vector>

struct Index {
    unsigned x;
};
static Index threadIdx, blockIdx, gridDim;

namespace host {
constexpr unsigned MAX_THREADS = 1024, STACK = 65536;
enum State { READY, DONE, AT_BARRIER, AT_SYNC, AT_BALLOT, AT_SHUFFLE };
struct Fiber {
    State state;
    bool begun;
    jmp_buf at;
    ucontext_t context;
};
static Fiber fibers[MAX_THREADS];
static char* stacks;
static jmp_buf scheduler;
static std::function<void()> work;

struct Shared {
    std::vector<std::pair<void*, size_t>> arrays;
    bool push(void* array, size_t size) {
        arrays.emplace_back(array, size);
        return true;
    }
};
static Shared shared;
static unsigned long long sent[MAX_THREADS], got[MAX_THREADS];

static void wait(State state) {
    Fiber& mine = fibers[threadIdx.x];
    mine.state = state;
    if (!_setjmp(mine.at)) _longjmp(scheduler, 1);
}

static void live() {
    for (;;) {
        work();
        wait(DONE);
    }
}

static void resume(unsigned k) {
    threadIdx.x = k;
    if (_setjmp(scheduler)) return;
    Fiber& f = fibers[k];
    if (f.begun) _longjmp(f.at, 1);
    f.begun = true;
    if (!stacks) stacks = (char*)malloc((size_t)MAX_THREADS * STACK);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = stacks + (size_t)k * STACK;
    f.context.uc_stack.ss_size = STACK;
    makecontext(&f.context, live, 0);
    setcontext(&f.context);
}

// Lets the fibers first .. first + n go on if they all wait for each other.
static bool release(unsigned first, unsigned n, bool barrier) {
    const State state = fibers[first].state;
    for (unsigned k = first; k < first + n; ++k)
        if (fibers[k].state != state) return false;
    if (barrier ? state != AT_BARRIER : state < AT_SYNC) return false;
    for (unsigned k = first; k < first + n; ++k) {
        got[k] = sent[k];
        fibers[k].state = READY;
    }
    return true;
}

// One warp after the other runs as far as it can, the last or the first of them first by turns, so that a missing
// barrier shows.
static int run_block(unsigned threads) {
    for (auto& array : shared.arrays) memset(array.first, 0xA5, array.second);
    for (unsigned k = 0; k < threads; ++k) fibers[k].state = READY;
    bool upward = true;
    do {
        upward = !upward;
        for (unsigned turn = 0; turn < threads; turn += 32) {
            const unsigned first = upward ? turn : threads - 32 - turn;
            do {
                for (unsigned k = first + 32; k-- > first;)
                    if (fibers[k].state == READY) resume(k);
            } while (release(first, 32, false));
        }
    } while (release(0, threads, true));
    bool done = true;
    for (unsigned k = 0; k < threads; ++k) done &= fibers[k].state == DONE;
    if (!done)
        for (unsigned k = 0; k < threads; ++k) fibers[k].begun = false;
    return !done;
}

template <class... A, size_t... I>
static int launch(void (*kernel)(A...), bool cooperates, unsigned blocks, unsigned threads, void** arguments,
                  std::index_sequence<I...>) {
    work = [=] { kernel(*(A*)arguments[I]...); };
    gridDim.x = blocks;
    for (unsigned b = blocks; b-- > 0;) {
        blockIdx.x = b;
        if (!cooperates)
            for (unsigned k = threads; k-- > 0;) {
                threadIdx.x = k;
                work();
            }
        else if (run_block(threads))
            return 1;
    }
    return 0;
}

template <class... A>
static int launch(void (*kernel)(A...), bool cooperates, unsigned blocks, unsigned threads, void** arguments) {
    return launch(kernel, cooperates, blocks, threads, arguments, std::index_sequence_for<A...>());
}

// Afterwards got[k] is what thread k of the warp has sent.
static void exchange(unsigned long long value, State state) {
    sent[threadIdx.x] = value;
    wait(state);
}
}  // namespace host

static inline void __syncthreads() { host::wait(host::AT_BARRIER); }
static inline void __syncwarp() { host::wait(host::AT_SYNC); }
static inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

static inline unsigned __ballot_sync(unsigned, bool flag) {
    host::exchange(flag, host::AT_BALLOT);
    const unsigned first = threadIdx.x & ~31u;
    unsigned bits = 0;
    for (unsigned k = 0; k < 32; ++k) bits |= (unsigned)host::got[first + k] << k;
    return bits;
}

template <class T> static inline T __shfl_xor_sync(unsigned, T value, int step) {
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    host::exchange(bits, host::AT_SHUFFLE);
    memcpy(&value, &host::got[threadIdx.x ^ step], sizeof value);
    return value;
}

static inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
    const unsigned long long old = *address;
    *address += value;
    return old;
}

static inline void sincospi(double x, double* sine, double* cosine) {
    *sine = std::sin(M_PI * x);
    *cosine = std::cos(M_PI * x);
}
