// CUDA C++ for the host, as far as CubeCL's kernels need it. A grid's blocks run one after the other. The threads of a block do so
// too where none waits for another; else each has a stack of its own and runs until it waits.
#pragma once
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>
#include <sys/mman.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ static

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const unsigned warpSize = 32;

namespace emulated {

enum { MOST_THREADS = 1024, STACK = 256 << 10, MOST_SHARED = 232448 };

struct Launch { dim3 grid, block; unsigned shared; };

alignas(1024) static char shared[MOST_SHARED];

// Those who wait for each other: a block, or a warp.
struct Group { unsigned present, arrived, round; };

// What the threads of a warp give each other, in turn in one and the other place, so that nobody waits for the readers.
struct Factors { unsigned left[4], right[2]; };

struct Warp { Group group; unsigned long long values[2][warpSize]; Factors factors[2][warpSize]; unsigned turn[warpSize]; };

struct Thread { jmp_buf at; dim3 index; bool ended; };

static Thread threads[MOST_THREADS];
static Warp warps[MOST_THREADS / warpSize];
static Group block;
static unsigned current, count;
static unsigned long progress;
static jmp_buf scheduler;
static void (*body)(void **);
static void **arguments;

inline unsigned lane() { return current % warpSize; }
inline Warp &warp() { return warps[current / warpSize]; }

inline void release(Group &group) {
    group.arrived = 0;
    group.round++;
    progress++;
}

inline void pause() {
    if (!_setjmp(threads[current].at)) _longjmp(scheduler, 1);
}

inline void wait(Group &group) {
    unsigned round = group.round;
    if (++group.arrived == group.present) return release(group);
    while (group.round == round) pause();
}

inline void leave(Group &group) {
    group.present--;
    if (group.present && group.arrived == group.present) release(group);
}

// What the thread in `from(lane)` gives; a thread's own where there is none.
template <class T> T exchange(T value, unsigned from) {
    static_assert(sizeof value <= 8, "of at most 64 bits");
    Warp &of = warp();
    unsigned long long *values = of.values[of.turn[lane()]++ % 2];
    memcpy(&values[lane()], &value, sizeof value);
    wait(of.group);
    if (from < warpSize) memcpy(&value, &values[from], sizeof value);
    return value;
}

// Half a register, a bf16.
inline float half(unsigned pair, unsigned which) {
    unsigned bits = (which ? pair >> 16 : pair) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// mma.m16n8k16: whose registers hold which elements says the PTX ISA, "Matrix Fragments for mma.m16n8k16".
template <class Sums, class Left, class Right> Sums product(Left left, Right right, Sums sums) {
    static_assert(sizeof left == 16 && sizeof right == 8 && sizeof sums == 16, "registers of a thread");
    Warp &of = warp();
    Factors *factors = of.factors[of.turn[lane()]++ % 2];
    memcpy(factors[lane()].left, &left, sizeof left);
    memcpy(factors[lane()].right, &right, sizeof right);
    wait(of.group);
    float result[4];
    memcpy(result, &sums, sizeof sums);
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            unsigned among = k % 8 / 2;
            float a = half(factors[row % 8 * 4 + among].left[row / 8 + k / 8 * 2], k % 2);
            float b = half(factors[column * 4 + among].right[k / 8], k % 2);
            result[i] += a * b;
        }
    }
    memcpy(&sums, result, sizeof sums);
    return sums;
}

inline unsigned vote(bool yes) {
    Warp &of = warp();
    unsigned long long *values = of.values[of.turn[lane()]++ % 2];
    values[lane()] = yes;
    wait(of.group);
    unsigned votes = 0;
    for (unsigned i = 0; i < warpSize; i++)
        if (unsigned thread = current / warpSize * warpSize + i; thread < count && !threads[thread].ended && values[i]) votes |= 1u << i;
    return votes;
}

static void enter() {
    body(arguments);
    threads[current].ended = true;
    progress++;
    leave(warp().group);
    leave(block);
    _longjmp(scheduler, 1);
}

// The stacks of all threads; of their memory only what is touched is taken.
inline char *stacks() {
    static char *all = (char *)mmap(nullptr, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) abort();
    return all;
}

inline void resume(unsigned thread, bool begins) {
    current = thread;
    threadIdx = threads[thread].index;
    if (_setjmp(scheduler)) return;
    if (!begins) _longjmp(threads[thread].at, 1);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks() + (size_t)thread * STACK;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, enter, 0);
    setcontext(&context);
}

inline void together() {
    block = {count, 0, 0};
    for (unsigned i = 0; i < count; i += warpSize) warps[i / warpSize] = {{count - i < warpSize ? count - i : warpSize, 0, 0}, {}, {}, {}};
    for (unsigned i = 0; i < count; i++) resume(i, true);
    while (block.present) {
        unsigned long before = progress;
        for (unsigned i = 0; i < count; i++)
            if (!threads[i].ended) resume(i, false);
        if (progress == before) {
            fprintf(stderr, "[cuda] threads of a block wait for each other without end\n");
            abort();
        }
    }
}

inline void alone() {
    for (current = 0; current < count; current++) {
        threadIdx = threads[current].index;
        body(arguments);
    }
}

inline void run(const Launch &launch, bool waits) {
    gridDim = launch.grid;
    blockDim = launch.block;
    count = blockDim.x * blockDim.y * blockDim.z;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
                for (unsigned i = 0; i < count; i++)
                    threads[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y}, threads[i].ended = false;
                memset(shared, 0xff, launch.shared);
                waits ? together() : alone();
            }
}

template <auto kernel> struct Called;
template <class... P, void (*kernel)(P...)> struct Called<kernel> {
    static void with(void **from) {
        unsigned next = 0;
        // Braces, for their order.
        struct In { In(void (*f)(P...), P... values) { f(values...); } } in{kernel, *(P *)from[next++]...};
    }
};

}  // namespace emulated

#define EMULATED_LAUNCH(kernel, waits)                                                    \
    extern "C" void emulated_launch(const emulated::Launch *launch, void **arguments) {   \
        emulated::body = emulated::Called<kernel>::with;                                  \
        emulated::arguments = arguments;                                                  \
        emulated::run(*launch, waits);                                                    \
    }

inline void __syncthreads() { emulated::wait(emulated::block); }
inline void __syncwarp(unsigned = ~0u) { emulated::wait(emulated::warp().group); }
inline void __threadfence() {}
inline unsigned __activemask() { return ~0u; }
template <class T> T __shfl_sync(unsigned, T value, int from) { return emulated::exchange(value, from % warpSize); }
template <class T> T __shfl_xor_sync(unsigned, T value, int with) { return emulated::exchange(value, emulated::lane() ^ with); }
template <class T> T __shfl_down_sync(unsigned, T value, unsigned by) { return emulated::exchange(value, emulated::lane() + by); }
template <class T> T __shfl_up_sync(unsigned, T value, unsigned by) { return emulated::exchange(value, emulated::lane() - by); }
inline unsigned __ballot_sync(unsigned, bool yes) { return emulated::vote(yes); }
inline bool __any_sync(unsigned, bool yes) { return emulated::vote(yes) != 0; }
inline bool __all_sync(unsigned, bool yes) { return emulated::vote(!yes) == 0; }

inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __clz(unsigned value) { return value ? __builtin_clz(value) : 32; }
inline int __ffs(int value) { return __builtin_ffs(value); }

template <class T> T max(T a, T b) { return a > b ? a : b; }
template <class T> T min(T a, T b) { return a < b ? a : b; }
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline float max_nan(float a, float b) { return a != a ? a : b != b ? b : fmaxf(a, b); }
inline float min_nan(float a, float b) { return a != a ? a : b != b ? b : fminf(a, b); }
inline float rsqrt(float value) { return 1 / sqrtf(value); }
inline float rsqrtf(float value) { return 1 / sqrtf(value); }
inline float __powf(float base, float exponent) { return powf(base, exponent); }
inline float __fdividef(float a, float b) { return a / b; }

template <class T> T atomicAdd(T *to, T value) { T before = *to; *to = before + value; return before; }
template <class T> T atomicMax(T *to, T value) { T before = *to; *to = max(before, value); return before; }
template <class T> T atomicMin(T *to, T value) { T before = *to; *to = min(before, value); return before; }
template <class T> T atomicExch(T *to, T value) { T before = *to; *to = value; return before; }

// Kernels declare these themselves, not always as the host does.
#define uint64_t device_uint64_t
#define int64_t device_int64_t
