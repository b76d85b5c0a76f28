/*
 * The AL-RNN recurrence on the CPU, forward and backward, in float32:
 *
 *     z_t = A z_{t-1} + W phi(z_{t-1}) + C s_t + h,        t = 1 .. T
 *
 * phi is the identity on the first M-P units and a ReLU on the last P. With g_t the gradient of z_t (its own plus what
 * comes back from z_{t+1}), the backward pass is
 *
 *     g_{t-1} += A g_t + phi'(z_{t-1}) * (W' g_t)                           ds_t = C' g_t
 *     [dW | dC | dh] = sum g_t [phi(z_{t-1}) | s_t | 1]'                    dA   = sum g_t * z_{t-1}
 *
 * How it is fast. A thread owns a tile of a few batch rows and takes it through all T steps, so that the rows and the
 * weights stay in its caches. A step is a small matrix product, done in blocks of (rows of the tile) x (a few vectors
 * of units) that are held in registers; what follows the product (A z, phi, the slope of phi) is done before the
 * block leaves them. [W C] is packed once a call in the order in which it is read, "panels" of a few vectors of
 * columns, zero-padded. W's gradient is accumulated over blocks of steps while they are in cache.
 *
 * A call is for E networks of one shape, which differ in their parameters, inputs and P. As many of them as there are
 * threads, or a multiple of that, are taken whole, each by one thread; the threads share the tiles of the rest.
 *
 * Memory. Everything is batch first. states is (B, T, M): z_1 .. z_T, zero past a sequence's length; z_0 is read where it
 * is. Within the kernel:
 *
 *     tile    rows of `stride` floats, each starting on a cache line: phi(z_{t-1}) of the rows of a tile
 *     grads   the same: g_t of a block of steps, one row for each (step, batch row), latest step first
 *     terms   beside it the rows [phi(z_{t-1}) | s_t | 1] that g_t is multiplied with
 *     sums    [dW | dC | dh], M rows, one such matrix for each thread; added up in the order of the threads
 *
 * Sequences are sorted by length, the longest first: those of a tile that are still running are always its first
 * rows, so a step takes fewer rows instead of masking some.
 *
 * A state is computed by the same operations in the same order whatever the tile, the number of threads and the split
 * of a sequence into calls, so these do not change a bit of it.
 *
 * How this file is built up: it includes itself once for each instruction set, with LEVEL and a few macros set; that
 * part ("the template") stands first, what it needs before it. Which set runs is decided when the module is loaded.
 */

#ifndef LEVEL

#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030A0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(_WIN32)
#include <pthread.h>
#define HAVE_THREADS 1
#endif

#if (defined(__GNUC__) || defined(__clang__)) && !defined(SCAN_PLAIN_C)
#define HAVE_VECTORS 1
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define X86_64 1
#elif defined(__aarch64__)
#define ARM_64 1
#if defined(HAVE_VECTORS)
#include <arm_neon.h>
#endif
#endif

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define INLINE static inline __attribute__((always_inline))
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))
#else
#define UNROLL
#define INLINE static inline
#endif

#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)(address))
#endif

#define CACHE_LINE 64
#define ROWS 6             /* of a register block, and so of a tile */
#define MAX_VECTORS 4      /* vectors of a register block */
#define BLOCK_ROWS 96      /* rows of grads and terms that are gathered before they are multiplied */

typedef struct {
    size_t length; /* valid steps */
    size_t index;  /* in the batch */
} Sequence;

typedef struct Scan Scan;

/* An instruction set. */
typedef struct {
    const char *name;
    size_t lanes;        /* floats of a vector */
    size_t accumulators; /* vectors that a register block may hold */
    void (*forward)(const Scan *, const Sequence *, size_t, float *);
    void (*backward)(const Scan *, const Sequence *, size_t, float *);
} Level;

/* One pass of one network, forward or backward. Pointers that it has no use for are NULL. */
struct Scan {
    size_t batch, time, units, channels; /* B, T, M and K; channels is 0 without C */
    size_t linear;                       /* M-P */

    const float *inputs;
    ptrdiff_t inputs_batch, inputs_time; /* strides in floats */
    const float *state; /* z_0 */
    ptrdiff_t state_batch;
    float *states, *last; /* states is only read by backward */
    ptrdiff_t states_batch, states_time;

    const float *grad_states;
    ptrdiff_t grad_states_batch, grad_states_time;
    const float *grad_last;
    float *grad_inputs, *grad_state;

    /* made by prepare(); vectors over units are zero-padded */
    const Level *level;
    void (*run)(const Scan *, const Sequence *, size_t, float *);
    size_t tiles, threads;
    size_t vectors;     /* of a panel, at most */
    size_t stride;      /* of tile and grads, in floats */
    size_t term_stride; /* of terms and sums */
    const Sequence *sequences;
    const float *A, *h;
    const float *floor;       /* phi(z) = z < floor ? floor : z; NaN on linear units, which no z is less than */
    const float *state_panels; /* forward: [W'; C'], M+K rows; backward: W, M rows */
    const float *input_panels; /* backward: C, M rows */
    float *work;               /* `work_size` floats a thread */
    size_t work_size;
};

static size_t ceil_div(size_t a, size_t b) { return a / b + (a % b != 0); }
static size_t round_up(size_t a, size_t b) { return ceil_div(a, b) * b; }

/* Where part `i` starts if `total` is cut into `parts` nearly equal parts. */
static size_t cut(size_t total, size_t parts, size_t i)
{
    const size_t whole = total / parts, rest = total % parts;
    return whole * i + (i < rest ? i : rest);
}

/* Floats from one row of a buffer to the next: whole cache lines, an odd number of them, so that the same column of
   successive rows does not fall into a few sets of the cache. */
static size_t row_stride(size_t width)
{
    const size_t lines = ceil_div(width, CACHE_LINE / sizeof(float));
    return (lines | 1) * (CACHE_LINE / sizeof(float));
}

/* The floats of a thread's work space, in this order (backward): sums; slopes, which are dA of the nonlinear units, and
   after them those of the block in hand; grads; terms. */
static float *work_slopes(const Scan *s, float *work) { return work + s->units * s->term_stride; }
static float *work_grads(const Scan *s, float *work) { return work_slopes(s, work) + 2 * s->stride; }
static float *work_terms(const Scan *s, float *work)
{
    return work_grads(s, work) + (BLOCK_ROWS + ROWS) * s->stride;
}

/* Register blocks of R rows and V vectors: those that fit into 12 accumulators, and those that fit into 24. */
#define SHAPES_12(F) \
    F(1, 1) F(1, 2) F(1, 3) F(1, 4) F(2, 1) F(2, 2) F(2, 3) F(2, 4) F(3, 1) F(3, 2) F(3, 3) F(3, 4) \
    F(4, 1) F(4, 2) F(4, 3) F(5, 1) F(5, 2) F(6, 1) F(6, 2)
#define SHAPES_24(F) \
    SHAPES_12(F) F(4, 4) F(5, 3) F(5, 4) F(6, 3) F(6, 4)

/* Ask for a row that will be needed in a step or two: batch first, a step reads many short rows far apart, one step
   before or after those that it read last, which the processor does not foresee. */
INLINE void prefetch_row(const float *row, size_t width)
{
    for (size_t i = 0; i < width; i += CACHE_LINE / sizeof(float))
        PREFETCH(row + i);
    PREFETCH(row + width - 1);
}

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(name) JOIN(name, LEVEL)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

/* ------------------------------------------------------------------------------------------------ instruction sets */

#if defined(HAVE_VECTORS) && defined(X86_64)

#define LEVEL avx512
#define LANES 16
#define ACCUMULATORS 24
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#include "_kernel.c"

/* The same instructions on half vectors: on a processor that splits full ones in two (Zen 4) these have the same peak
   and waste less on padding. */
#define LEVEL avx512_256
#define LANES 8
#define MASKS
#define ACCUMULATORS 24
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#include "_kernel.c"

#define LEVEL avx2
#define LANES 8
#define ACCUMULATORS 12
#define TARGET __attribute__((target("avx2,fma")))
#include "_kernel.c"

#endif

#if defined(HAVE_VECTORS) && defined(ARM_64)
#define LEVEL neon
#define ACCUMULATORS 24
#else
#define LEVEL portable
#define ACCUMULATORS 12
#endif
#if defined(HAVE_VECTORS)
#define LANES 4
#else
#define LANES 1
#endif
#define TARGET
#include "_kernel.c"

static const Level *const all_levels[] = {
#if defined(HAVE_VECTORS) && defined(X86_64)
    &level_avx512, &level_avx512_256, &level_avx2,
#endif
#if defined(HAVE_VECTORS) && defined(ARM_64)
    &level_neon,
#else
    &level_portable,
#endif
};

enum { LEVELS = sizeof(all_levels) / sizeof(all_levels[0]) };

static const Level *best_level; /* set once, when the module is loaded */

static int runs_here(const Level *level)
{
#if defined(HAVE_VECTORS) && defined(X86_64)
    __builtin_cpu_init();
    if (level == &level_avx512 || level == &level_avx512_256)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == &level_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    (void)level;
    return 1;
}

/* Whether a full vector of AVX-512 takes two passes: AMD's family 19h (Zen 4; its Zen 3 has no AVX-512). */
static int splits_vectors(void)
{
#if defined(HAVE_VECTORS) && defined(X86_64)
    unsigned eax, ebx, ecx, edx;
    __asm__("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(1), "c"(0));
    return __builtin_cpu_is("amd") && ((eax >> 8) & 0xf) == 0xf && ((eax >> 20) & 0xff) == 0x0a;
#else
    return 0;
#endif
}

static const Level *choose_level(void)
{
    for (size_t i = 0; i < LEVELS; i++) {
        if (!strcmp(all_levels[i]->name, "avx512") && splits_vectors())
            continue;
        if (runs_here(all_levels[i]))
            return all_levels[i];
    }
    return all_levels[LEVELS - 1];
}

/* --------------------------------------------------------------------------------------------------------- threads */

/* Gradients that decay over hundreds of steps become denormal numbers, which are many times slower: take them for
   zero. The mode belongs to the thread and is put back, as the calling thread is not ours. */
#if defined(X86_64)
typedef unsigned Mode;
static Mode flush_denormals(void)
{
    const Mode mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* FTZ and DAZ */
    return mode;
}
static void restore_mode(Mode mode) { _mm_setcsr(mode); }
#elif defined(ARM_64) && defined(HAVE_VECTORS)
typedef uint64_t Mode;
static Mode flush_denormals(void)
{
    Mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (UINT64_C(1) << 24)) : "memory"); /* FZ */
    return mode;
}
static void restore_mode(Mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#else
typedef int Mode;
static Mode flush_denormals(void) { return 0; }
static void restore_mode(Mode mode) { (void)mode; }
#endif

/* Part `number` of a job that threads share. */
typedef struct Worker {
    int (*run)(const struct Worker *); /* 0 if there was no memory for it */
    const void *job;
    size_t number;
    int done;
#if defined(HAVE_THREADS)
    pthread_t thread;
    int started;
#endif
} Worker;

static void *run_worker(void *argument)
{
    Worker *worker = argument;
    worker->done = worker->run(worker);
    return NULL;
}

/* Run all parts of a job; 0 if one of them had no memory. Threads live for one call: no pool to break in a forked child
   or to share between callers. */
static int run_threads(int (*run)(const Worker *), const void *job, Worker *workers, size_t threads)
{
    for (size_t i = 0; i < threads; i++) {
        workers[i].run = run;
        workers[i].job = job;
        workers[i].number = i;
    }
#if defined(HAVE_THREADS)
    for (size_t i = 1; i < threads; i++)
        workers[i].started = !pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]);
    run_worker(&workers[0]);
    for (size_t i = 1; i < threads; i++) {
        if (workers[i].started)
            pthread_join(workers[i].thread, NULL);
        else
            run_worker(&workers[i]); /* no thread to be had */
    }
#else
    for (size_t i = 0; i < threads; i++)
        run_worker(&workers[i]);
#endif
    int done = 1;
    for (size_t i = 0; i < threads; i++)
        done &= workers[i].done;
    return done;
}

/* Tiles go to the threads in turn: fixed, so that sums do not depend on who is faster, and fair, as lengths
   decrease. */
static int run_tiles(const Worker *worker)
{
    const Scan *s = worker->job;
    const Mode mode = flush_denormals();
    for (size_t tile = worker->number; tile < s->tiles; tile += s->threads) {
        const size_t first = cut(s->batch, s->tiles, tile), end = cut(s->batch, s->tiles, tile + 1);
        s->run(s, s->sequences + first, end - first, s->work + worker->number * s->work_size);
    }
    restore_mode(mode);
    return 1;
}

/* ----------------------------------------------------------------------------------------------------- preparation */

static int longer_first(const void *left, const void *right)
{
    const Sequence *a = left, *b = right;
    if (a->length != b->length)
        return a->length > b->length ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* A matrix whose element (row, column) is at data[row * row_stride + column * column_stride]. */
typedef struct {
    const float *data;
    ptrdiff_t row, column;
} Matrix;

static size_t panel_count(const Scan *s, size_t columns)
{
    return ceil_div(ceil_div(columns, s->level->lanes), s->vectors);
}

/* Copy the rows of `top`, then those of `bottom`, to panels: all rows of the first few columns, then of the next. */
static void pack(const Scan *s, float *out, Matrix top, size_t top_rows, Matrix bottom, size_t bottom_rows,
                 size_t columns)
{
    const size_t lanes = s->level->lanes, vectors = ceil_div(columns, lanes), panels = panel_count(s, columns);
    for (size_t p = 0; p < panels; p++) {
        const size_t first = cut(vectors, panels, p) * lanes, end = cut(vectors, panels, p + 1) * lanes;
        for (size_t k = 0; k < top_rows + bottom_rows; k++) {
            const Matrix *m = k < top_rows ? &top : &bottom;
            const float *row = m->data + (ptrdiff_t)(k < top_rows ? k : k - top_rows) * m->row;
            for (size_t j = first; j < end; j++)
                *out++ = j < columns ? row[(ptrdiff_t)j * m->column] : 0.0f;
        }
    }
}

/* total += a * b, all in floats; 0 on overflow. */
static int add_size(size_t *total, size_t a, size_t b)
{
    const size_t limit = PTRDIFF_MAX / sizeof(float);
    if (a != 0 && b > (limit - *total) / a)
        return 0;
    *total += a * b;
    return 1;
}

typedef struct {
    void *block; /* to be freed */
    Worker *workers;
    float *A, *h, *floor, *state_panels, *input_panels;
} Memory;

/* Decide on tiles and threads and get all memory of the call, in one block. Returns 0 if there is none. */
static int prepare(Scan *s, Memory *memory, const int64_t *lengths, size_t threads, int backward)
{
    const Level *level = s->level;
    const size_t M = s->units, K = s->channels;
    s->run = backward ? level->backward : level->forward;

    threads = threads > s->batch ? s->batch : threads;
    threads = threads < 1 ? 1 : threads;
    s->tiles = ceil_div(s->batch, ROWS);
    s->tiles = s->tiles < threads ? threads : round_up(s->tiles, threads);
    s->tiles = s->tiles > s->batch ? ceil_div(s->batch, ROWS) : s->tiles;
    s->threads = threads;
    const size_t tile_rows = s->tiles ? ceil_div(s->batch, s->tiles) : 1;
    s->vectors = level->accumulators / tile_rows;
    s->vectors = s->vectors > MAX_VECTORS ? MAX_VECTORS : s->vectors;

    /* a vector read or written at the last column must stay within the row */
    const size_t padded = round_up(M, level->lanes), columns = round_up(K, level->lanes);
    s->stride = row_stride(padded);
    s->term_stride = row_stride(round_up(M + K + 1, level->lanes));

    size_t rows = 2 * ROWS, terms = 0; /* of s->stride and s->term_stride in a thread's work space */
    if (backward) {
        rows = 2 + BLOCK_ROWS + ROWS;
        terms = M + BLOCK_ROWS;
    }
    s->work_size = 0;
    size_t floats = 0;
    const size_t line = CACHE_LINE / sizeof(float);
    const size_t sequences = ceil_div(sizeof(Sequence), sizeof(float));
    const size_t worker = ceil_div(sizeof(Worker), sizeof(float));
    if (!add_size(&s->work_size, rows, s->stride) || !add_size(&s->work_size, terms, s->term_stride) ||
        !add_size(&floats, threads, s->work_size) || !add_size(&floats, 3, s->stride) ||
        !add_size(&floats, round_up(M + (backward ? 0 : K), line), padded) ||
        !add_size(&floats, backward ? round_up(M, line) : 0, columns) ||
        !add_size(&floats, s->batch, sequences) || !add_size(&floats, threads, worker) || !add_size(&floats, 4, line))
        return 0;
    memory->block = calloc(floats, sizeof(float));
    if (!memory->block)
        return 0;

    float *next = memory->block;
    next += (CACHE_LINE - (uintptr_t)next % CACHE_LINE) % CACHE_LINE / sizeof(float);
    s->work = next, next += threads * s->work_size;
    memory->A = next, next += s->stride;
    memory->h = next, next += s->stride;
    memory->floor = next, next += s->stride;
    memory->state_panels = next, next += round_up(M + (backward ? 0 : K), line) * padded;
    memory->input_panels = next, next += backward ? round_up(M, line) * columns : 0;
    Sequence *order = (Sequence *)next;
    next += round_up(s->batch * sequences, line);
    memory->workers = (Worker *)next;

    for (size_t b = 0; b < s->batch; b++) {
        order[b].index = b;
        order[b].length = lengths ? (size_t)lengths[b] : s->time;
    }
    if (lengths)
        qsort(order, s->batch, sizeof(Sequence), longer_first);
    for (size_t i = 0; i < s->stride; i++)
        memory->floor[i] = i >= s->linear && i < M ? 0.0f : NAN;

    s->sequences = order;
    s->A = memory->A;
    s->h = memory->h;
    s->floor = memory->floor;
    s->state_panels = memory->state_panels;
    s->input_panels = memory->input_panels;
    return 1;
}

static int scan_forward(Scan *s, const float *A, Matrix W, Matrix C, const float *h, const int64_t *lengths,
                        size_t threads)
{
    Memory memory = {0};
    if (!prepare(s, &memory, lengths, threads, 0))
        return 0;
    memcpy(memory.A, A, s->units * sizeof(float));
    memcpy(memory.h, h, s->units * sizeof(float));
    const Matrix W_transposed = {W.data, W.column, W.row}, C_transposed = {C.data, C.column, C.row};
    pack(s, memory.state_panels, W_transposed, s->units, C_transposed, s->channels, s->units);
    run_threads(run_tiles, s, memory.workers, s->threads);
    free(memory.block);
    return 1;
}

static int scan_backward(Scan *s, const float *A, Matrix W, Matrix C, const int64_t *lengths, size_t threads,
                         float *grad_A, float *grad_W, float *grad_C, float *grad_h)
{
    const size_t M = s->units, K = s->channels;
    Memory memory = {0};
    if (!prepare(s, &memory, lengths, threads, 1))
        return 0;
    memcpy(memory.A, A, M * sizeof(float));
    const Matrix none = {0};
    pack(s, memory.state_panels, W, M, none, 0, M);
    if (K && s->grad_inputs)
        pack(s, memory.input_panels, C, M, none, 0, K);
    run_threads(run_tiles, s, memory.workers, s->threads);

    for (size_t i = 1; i < s->threads; i++) {
        const float *other = s->work + i * s->work_size;
        for (size_t j = 0; j < M * s->term_stride; j++)
            s->work[j] += other[j];
        for (size_t j = 0; j < M; j++)
            work_slopes(s, s->work)[j] += work_slopes(s, s->work + i * s->work_size)[j];
    }
    for (size_t i = 0; i < M; i++) {
        const float *sums = s->work + i * s->term_stride;
        memcpy(grad_W + i * M, sums, M * sizeof(float));
        if (K)
            memcpy(grad_C + i * K, sums + M, K * sizeof(float));
        grad_h[i] = sums[M + K];
        /* phi(z) = z on a linear unit */
        grad_A[i] = i < s->linear ? sums[i] : work_slopes(s, s->work)[i];
    }
    free(memory.block);
    return 1;
}

/* -------------------------------------------------------------------------------------------------------- networks */

/* The networks of a call: what it says of the first one, and how far it is from each to the next. Strides count floats,
   or int64 for P and lengths. What is written is contiguous. */
typedef struct {
    Scan first;
    size_t count, whole, threads; /* the first `whole` networks are each run by one thread */
    int backward;
    const float *A, *h;
    Matrix W, C;
    const int64_t *P, *lengths;
    ptrdiff_t inputs_stride, state_stride, A_stride, W_stride, C_stride, h_stride, P_stride, lengths_stride;
    ptrdiff_t states_stride, grad_states_stride, grad_last_stride; /* of backward */
    float *grad_A, *grad_W, *grad_C, *grad_h;
} Networks;

static int run_network(const Networks *n, size_t e, size_t threads)
{
    const ptrdiff_t at = (ptrdiff_t)e;
    Scan s = n->first;
    const size_t B = s.batch, T = s.time, M = s.units, K = s.channels;
    const Matrix W = {n->W.data + at * n->W_stride, n->W.row, n->W.column};
    const Matrix C = {K ? n->C.data + at * n->C_stride : NULL, n->C.row, n->C.column};
    const float *A = n->A + at * n->A_stride;
    const int64_t *lengths = n->lengths ? n->lengths + at * n->lengths_stride : NULL;
    s.linear = M - (size_t)n->P[at * n->P_stride];
    s.inputs = s.inputs ? s.inputs + at * n->inputs_stride : NULL;
    s.state = s.state ? s.state + at * n->state_stride : NULL;
    s.states = s.states ? s.states + at * n->states_stride : NULL;
    if (!n->backward) {
        s.last += e * B * M;
        return scan_forward(&s, A, W, C, n->h + at * n->h_stride, lengths, threads);
    }
    s.grad_states = s.grad_states ? s.grad_states + at * n->grad_states_stride : NULL;
    s.grad_last = s.grad_last ? s.grad_last + at * n->grad_last_stride : NULL;
    s.grad_inputs = s.grad_inputs ? s.grad_inputs + e * B * T * (K ? K : M) : NULL;
    s.grad_state = s.grad_state ? s.grad_state + e * B * M : NULL;
    return scan_backward(&s, A, W, C, lengths, threads, n->grad_A + e * M, n->grad_W + e * M * M,
                         K ? n->grad_C + e * M * K : NULL, n->grad_h + e * M);
}

static int run_whole_networks(const Worker *worker)
{
    const Networks *n = worker->job;
    for (size_t e = worker->number; e < n->whole; e += n->threads)
        if (!run_network(n, e, 1))
            return 0;
    return 1;
}

/* Run all networks; 0 if there is no memory. */
static int run_networks(Networks *n, size_t threads)
{
    n->threads = threads;
    n->whole = n->count - n->count % threads;
    int done = 1;
    if (n->whole) {
        Worker *workers = calloc(threads, sizeof(Worker));
        done = workers && run_threads(run_whole_networks, n, workers, threads);
        free(workers);
    }
    for (size_t e = n->whole; done && e < n->count; e++)
        done = run_network(n, e, threads);
    return done;
}

/* ---------------------------------------------------------------------------------------------------------- Python */

static const Level *find_level(const char *name)
{
    if (!*name)
        return best_level;
    for (size_t i = 0; i < LEVELS; i++)
        if (!strcmp(all_levels[i]->name, name) && runs_here(all_levels[i]))
            return all_levels[i];
    PyErr_Format(PyExc_ValueError, "no instruction set '%s' here", name);
    return NULL;
}

/* Addresses come as integers (Tensor.data_ptr()), 0 for none. */
static void *pointer(Py_ssize_t address) { return (void *)(intptr_t)address; }

/* What both directions take, as parsed from Python. */
typedef struct {
    Py_ssize_t sizes[5], threads, inputs[4], state[3], A[2], W[4], C[4], h[2], P[2], lengths[2];
    const char *level;
} Arguments;

/* Check these and hand them on; -1 with an exception set if they do not fit. */
static int set_arguments(Networks *n, const Arguments *a)
{
    const Py_ssize_t count = a->sizes[0], batch = a->sizes[1], time = a->sizes[2], units = a->sizes[3],
                     channels = a->sizes[4];
    if (count < 1 || batch < 0 || time < 0 || units < 1 || channels < 0 || a->threads < 1) {
        PyErr_SetString(PyExc_ValueError, "a size is out of range");
        return -1;
    }
    if (!a->A[0] || !a->W[0] || !a->P[0] || (channels && !a->C[0]) || (batch && !a->state[0])) {
        PyErr_SetString(PyExc_ValueError, "an address is missing");
        return -1;
    }
    n->P = pointer(a->P[0]), n->P_stride = a->P[1];
    n->lengths = pointer(a->lengths[0]), n->lengths_stride = a->lengths[1];
    for (Py_ssize_t e = 0; e < count; e++) {
        const int64_t P = n->P[e * n->P_stride];
        if (P < 0 || P > units) {
            PyErr_Format(PyExc_ValueError, "P must lie between 0 and M=%zd, got %lld", units, (long long)P);
            return -1;
        }
        for (Py_ssize_t b = 0; n->lengths && b < batch; b++) {
            const int64_t length = n->lengths[e * n->lengths_stride + b];
            if (length < 0 || length > time) {
                PyErr_Format(PyExc_ValueError, "lengths must lie between 0 and %zd, got %lld", time, (long long)length);
                return -1;
            }
        }
    }
    if (!(n->first.level = find_level(a->level)))
        return -1;
    n->count = (size_t)count;
    n->first.batch = (size_t)batch, n->first.time = (size_t)time;
    n->first.units = (size_t)units, n->first.channels = (size_t)channels;
    n->first.inputs = pointer(a->inputs[0]), n->inputs_stride = a->inputs[1];
    n->first.inputs_batch = a->inputs[2], n->first.inputs_time = a->inputs[3];
    n->first.state = pointer(a->state[0]), n->state_stride = a->state[1], n->first.state_batch = a->state[2];
    n->A = pointer(a->A[0]), n->A_stride = a->A[1];
    n->W = (Matrix){pointer(a->W[0]), a->W[2], a->W[3]}, n->W_stride = a->W[1];
    n->C = (Matrix){pointer(a->C[0]), a->C[2], a->C[3]}, n->C_stride = a->C[1];
    n->h = pointer(a->h[0]), n->h_stride = a->h[1];
    return 0;
}

/* Formats of tuples of sizes and strides, and where PyArg_ParseTuple puts them. */
#define TWO(x) &(x)[0], &(x)[1]
#define THREE(x) TWO(x), &(x)[2]
#define FOUR(x) THREE(x), &(x)[3]
#define FIVE(x) FOUR(x), &(x)[4]

PyDoc_STRVAR(forward_doc,
"forward(sizes, threads, level, states, last, inputs, state, A, W, C, h, P, lengths)\n--\n\n"
"Write states (E, B, T, M) and last (E, B, M), both contiguous.\n\n"
"sizes is (E, B, T, M, K), with K=0 where there is no C; threads is how many run at most; level '' is the best one.\n"
"Each of the others is a tuple of an address, the stride from one network to the next, and the strides of its own\n"
"dimensions but those that must be 1: inputs (batch, time), state (batch), W and C (row, column), none for A, h, P\n"
"(int64) and lengths (int64). Strides count elements. What is absent is all zeros. The GIL is released.");

static PyObject *py_forward(PyObject *self, PyObject *args)
{
    (void)self;
    Networks n = {0};
    Arguments a;
    Py_ssize_t states, last;
    if (!PyArg_ParseTuple(args, "(nnnnn)nsnn(nnnn)(nnn)(nn)(nnnn)(nnnn)(nn)(nn)(nn):forward", FIVE(a.sizes), &a.threads,
                          &a.level, &states, &last, FOUR(a.inputs), THREE(a.state), TWO(a.A), FOUR(a.W), FOUR(a.C),
                          TWO(a.h), TWO(a.P), TWO(a.lengths)))
        return NULL;
    if (set_arguments(&n, &a) < 0)
        return NULL;
    Scan *s = &n.first;
    if (!n.h || (s->batch && (!last || (s->time && (!states || !s->inputs))))) {
        PyErr_SetString(PyExc_ValueError, "an address is missing");
        return NULL;
    }
    s->states = pointer(states), s->last = pointer(last);
    s->states_batch = a.sizes[2] * a.sizes[3], s->states_time = a.sizes[3];
    n.states_stride = a.sizes[1] * s->states_batch;

    int done;
    Py_BEGIN_ALLOW_THREADS
    done = !s->batch || run_networks(&n, (size_t)a.threads);
    Py_END_ALLOW_THREADS
    if (!done)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(backward_doc,
"backward(sizes, threads, level, grad_A, grad_W, grad_C, grad_h, grad_state, grad_inputs, grad_states, grad_last,\n"
"         states, inputs, state, A, W, C, h, P, lengths)\n--\n\n"
"Write the gradients, all contiguous; grad_state and grad_inputs may be 0 if they are not needed.\n\n"
"As in forward(), where h has no part in it; the strides of states and grad_states are (batch, time), that of grad_last is the network's alone.\n"
"grad_states and grad_last that are absent stand for gradients of zero.");

static PyObject *py_backward(PyObject *self, PyObject *args)
{
    (void)self;
    Networks n = {.backward = 1};
    Arguments a;
    Py_ssize_t grad_A, grad_W, grad_C, grad_h, grad_state, grad_inputs, grad_states[4], grad_last[2], states[4];
    if (!PyArg_ParseTuple(args, "(nnnnn)nsnnnnnn(nnnn)(nn)(nnnn)(nnnn)(nnn)(nn)(nnnn)(nnnn)(nn)(nn)(nn):backward",
                          FIVE(a.sizes), &a.threads, &a.level, &grad_A, &grad_W, &grad_C, &grad_h, &grad_state,
                          &grad_inputs, FOUR(grad_states), TWO(grad_last), FOUR(states), FOUR(a.inputs), THREE(a.state),
                          TWO(a.A), FOUR(a.W), FOUR(a.C), TWO(a.h), TWO(a.P), TWO(a.lengths)))
        return NULL;
    if (set_arguments(&n, &a) < 0)
        return NULL;
    Scan *s = &n.first;
    if (!grad_A || !grad_W || !grad_h || (s->channels && !grad_C) ||
        (s->batch && s->time && (!states[0] || (s->channels && !s->inputs)))) {
        PyErr_SetString(PyExc_ValueError, "an address is missing");
        return NULL;
    }
    s->states = pointer(states[0]), n.states_stride = states[1];
    s->states_batch = states[2], s->states_time = states[3];
    s->grad_states = pointer(grad_states[0]), n.grad_states_stride = grad_states[1];
    s->grad_states_batch = grad_states[2], s->grad_states_time = grad_states[3];
    s->grad_last = pointer(grad_last[0]), n.grad_last_stride = grad_last[1];
    s->grad_inputs = pointer(grad_inputs), s->grad_state = pointer(grad_state);
    n.grad_A = pointer(grad_A), n.grad_W = pointer(grad_W), n.grad_C = pointer(grad_C), n.grad_h = pointer(grad_h);

    int done;
    Py_BEGIN_ALLOW_THREADS
    done = run_networks(&n, (size_t)a.threads);
    Py_END_ALLOW_THREADS
    if (!done)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyDoc_STRVAR(simd_level_doc, "simd_level()\n--\n\nName of the instruction set in use.");

static PyObject *py_simd_level(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return PyUnicode_FromString(best_level->name);
}

PyDoc_STRVAR(simd_levels_doc, "simd_levels()\n--\n\nNames of the instruction sets that run here.");

static PyObject *py_simd_levels(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names && i < LEVELS; i++) {
        if (!runs_here(all_levels[i]))
            continue;
        PyObject *name = PyUnicode_FromString(all_levels[i]->name);
        if (!name || PyList_Append(names, name) < 0)
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static PyMethodDef methods[] = {
    {"forward", py_forward, METH_VARARGS, forward_doc},
    {"backward", py_backward, METH_VARARGS, backward_doc},
    {"simd_level", py_simd_level, METH_NOARGS, simd_level_doc},
    {"simd_levels", py_simd_levels, METH_NOARGS, simd_levels_doc},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    (void)module;
    best_level = choose_level();
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)module_exec}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "The AL-RNN recurrence on the CPU.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }

#else /* ----------------------------------------------------------------------------------------------- the template */

/*
 * Set by the includer: LEVEL (suffix of all names), LANES (floats of a vector), ACCUMULATORS (vectors
 * that fit into the registers beside operands), TARGET (attribute of every function); MASKS if vectors of 8 have mask
 * registers.
 */

#if LANES == 1
typedef float NAME(Vec);
#define VEC_AT(p) (*(p))
#else
/* loaded and stored through a type of alignment 4 that may alias: with memcpy GCC goes through the stack */
typedef float NAME(Vec) __attribute__((vector_size(4 * LANES)));
typedef float NAME(Unaligned) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(Mask) __attribute__((vector_size(4 * LANES)));
#define VEC_AT(p) (*(NAME(Unaligned) *)(p))
#endif
#define VEC NAME(Vec)

INLINE TARGET VEC NAME(load)(const float *p)
{
#if LANES == 1
    return *p;
#else
    return *(const NAME(Unaligned) *)p;
#endif
}

INLINE TARGET void NAME(store)(float *p, VEC x) { VEC_AT(p) = x; }

/* The first n lanes, 1 <= n <= LANES, zeros in the others. */
INLINE TARGET VEC NAME(load_part)(const float *p, size_t n)
{
#if LANES == 16
    return _mm512_maskz_loadu_ps((__mmask16)(0xffffu >> (16 - n)), p);
#elif LANES == 8 && defined(MASKS)
    return _mm256_maskz_loadu_ps((__mmask8)(0xffu >> (8 - n)), p);
#elif LANES == 8
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)(ones + 8 - n)));
#elif LANES == 4
    if (n == 4)
        return NAME(load)(p);
    return (VEC){p[0], n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, 0.0f};
#else
    (void)n;
    return *p;
#endif
}

INLINE TARGET void NAME(store_part)(float *p, VEC x, size_t n)
{
#if LANES == 16
    _mm512_mask_storeu_ps(p, (__mmask16)(0xffffu >> (16 - n)), x);
#elif LANES == 8 && defined(MASKS)
    _mm256_mask_storeu_ps(p, (__mmask8)(0xffu >> (8 - n)), x);
#elif LANES == 8
    if (n == 8) {
        NAME(store)(p, x);
        return;
    }
    /* not by maskstore, which is slow on older AMD processors */
    __m128 part = _mm256_castps256_ps128(x);
    if (n & 4) {
        _mm_storeu_ps(p, part);
        part = _mm256_extractf128_ps(x, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, part);
        part = _mm_movehl_ps(part, part);
        p += 2;
    }
    if (n & 1)
        _mm_store_ss(p, part);
#elif LANES == 4
    if (n == 4) {
        NAME(store)(p, x);
        return;
    }
    p[0] = x[0];
    if (n > 1)
        p[1] = x[1];
    if (n > 2)
        p[2] = x[2];
#else
    (void)n;
    *p = x;
#endif
}

INLINE TARGET VEC NAME(broadcast)(float x)
{
#if LANES == 16
    return _mm512_set1_ps(x);
#elif LANES == 8
    return _mm256_set1_ps(x);
#elif LANES == 4
    return (VEC){x, x, x, x};
#else
    return x;
#endif
}

/* x * y + z */
INLINE TARGET VEC NAME(fma)(VEC x, VEC y, VEC z)
{
#if LANES == 16
    return _mm512_fmadd_ps(x, y, z);
#elif LANES == 8
    return _mm256_fmadd_ps(x, y, z);
#elif LANES == 4 && defined(ARM_64)
    return (VEC)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
#else
    return x * y + z;
#endif
}

/* phi: z < floor ? floor : z. NaN as z passes, and so does any z where floor is NaN (a linear unit). */
INLINE TARGET VEC NAME(rectify)(VEC z, VEC floor)
{
#if LANES == 16
    return _mm512_max_ps(floor, z); /* the second operand if either is NaN */
#elif LANES == 8
    return _mm256_max_ps(floor, z);
#elif LANES == 4
    const NAME(Mask) below = z < floor;
    return (VEC)(((NAME(Mask))floor & below) | ((NAME(Mask))z & ~below));
#else
    return z < floor ? floor : z;
#endif
}

/* What comes back through phi: x where not z <= floor, else 0; z may be phi(z) as well. */
INLINE TARGET VEC NAME(gate)(VEC x, VEC z, VEC floor)
{
#if LANES == 16
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(z, floor, _CMP_NLE_UQ), x);
#elif LANES == 8 && defined(MASKS)
    return _mm256_maskz_mov_ps(_mm256_cmp_ps_mask(z, floor, _CMP_NLE_UQ), x);
#elif LANES == 8
    return _mm256_and_ps(x, _mm256_cmp_ps(z, floor, _CMP_NLE_UQ));
#elif LANES == 4
    return (VEC)((NAME(Mask))x & ~(NAME(Mask))(z <= floor));
#else
    return z <= floor ? 0.0f : x;
#endif
}

INLINE TARGET void NAME(copy)(float *out, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES < n; i += LANES)
        NAME(store)(out + i, NAME(load)(x + i));
    if (i < n)
        NAME(store_part)(out + i, NAME(load_part)(x + i, n - i), n - i);
}

/* What a step of a tile works on: pointers to the rows of its sequences. */
typedef struct {
    const Scan *scan;
    const float *tile;         /* forward: phi(z_{t-1}); backward: g_t; rows of scan->stride */
    float *next;               /* forward: phi(z_t); backward: g_{t-1} */
    const float *inputs[ROWS]; /* s_t */
    const float *before[ROWS]; /* z_{t-1} */
    float *states[ROWS];       /* z_t */
    const float *terms;        /* backward: phi(z_{t-1}); rows of scan->term_stride */
    const float *grads[ROWS];  /* own gradient of z_{t-1}, if has_grads */
    int has_grads;
    float *grad_inputs[ROWS];
} NAME(Step);

/* sum[r][v] += x[r][0..n) times V vectors of columns of the n rows of a panel. */
INLINE TARGET void NAME(multiply)(VEC sum[ROWS][MAX_VECTORS], const float *const x[ROWS], const float *panel, size_t n,
                                  const int R, const int V)
{
    for (size_t k = 0; k < n; k++, panel += V * LANES) {
        VEC w[MAX_VECTORS];
        UNROLL for (int v = 0; v < V; v++)
            w[v] = NAME(load)(panel + v * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            const VEC factor = NAME(broadcast)(x[r][k]);
            UNROLL for (int v = 0; v < V; v++)
                sum[r][v] = NAME(fma)(factor, w[v], sum[r][v]);
        }
    }
}

/* Lanes of vector v that lie within the first `width` columns. Only the last of a panel can be incomplete. */
#define LANES_OF(v) ((v) == V - 1 ? last_lanes : (size_t)LANES)
#define LAST_LANES(width) ((width) - (column + (V - 1) * LANES) < LANES ? (width) - (column + (V - 1) * LANES) : LANES)

/* z_t and phi(z_t) of R rows, V vectors of units from `column` on. */
INLINE TARGET void NAME(forward_block)(const NAME(Step) *step, size_t column, const float *panel, const int R,
                                       const int V)
{
    const Scan *s = step->scan;
    const size_t M = s->units, K = s->channels, last_lanes = LAST_LANES(M);
    VEC sum[ROWS][MAX_VECTORS];
    const float *x[ROWS];
    UNROLL for (int v = 0; v < V; v++) {
        const VEC a = NAME(load)(s->A + column + v * LANES), h = NAME(load)(s->h + column + v * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            const float *z = step->before[r] + column + v * LANES;
            sum[r][v] = NAME(fma)(a, NAME(load_part)(z, LANES_OF(v)), h);
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        x[r] = step->tile + r * s->stride;
    NAME(multiply)(sum, x, panel, M, R, V);
    if (K) {
        UNROLL for (int r = 0; r < R; r++)
            x[r] = step->inputs[r];
        NAME(multiply)(sum, x, panel + M * V * LANES, K, R, V);
    } else {
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < V; v++)
                sum[r][v] += NAME(load_part)(step->inputs[r] + column + v * LANES, LANES_OF(v));
    }
    UNROLL for (int v = 0; v < V; v++) {
        const VEC floor = NAME(load)(s->floor + column + v * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            NAME(store_part)(step->states[r] + column + v * LANES, sum[r][v], LANES_OF(v));
            NAME(store)(step->next + r * s->stride + column + v * LANES, NAME(rectify)(sum[r][v], floor));
        }
    }
}

/* g_{t-1} of R rows, V vectors of units. */
INLINE TARGET void NAME(backward_block)(const NAME(Step) *step, size_t column, const float *panel, const int R,
                                        const int V)
{
    const Scan *s = step->scan;
    const size_t last_lanes = LAST_LANES(s->units);
    VEC sum[ROWS][MAX_VECTORS];
    const float *x[ROWS];
    UNROLL for (int r = 0; r < R; r++) {
        x[r] = step->tile + r * s->stride;
        UNROLL for (int v = 0; v < V; v++)
            sum[r][v] = NAME(broadcast)(0.0f);
    }
    NAME(multiply)(sum, x, panel, s->units, R, V);
    UNROLL for (int v = 0; v < V; v++) {
        const VEC a = NAME(load)(s->A + column + v * LANES), floor = NAME(load)(s->floor + column + v * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            const size_t at = column + v * LANES;
            const VEC phi = NAME(load)(step->terms + r * s->term_stride + at);
            VEC grad = NAME(fma)(a, NAME(load)(x[r] + at), NAME(gate)(sum[r][v], phi, floor));
            if (step->has_grads)
                grad += NAME(load_part)(step->grads[r] + at, LANES_OF(v));
            NAME(store)(step->next + r * s->stride + at, grad);
        }
    }
}

/* The gradient of s_t of R rows, V vectors of channels. */
INLINE TARGET void NAME(inputs_block)(const NAME(Step) *step, size_t column, const float *panel, const int R,
                                      const int V)
{
    const Scan *s = step->scan;
    const size_t last_lanes = LAST_LANES(s->channels);
    VEC sum[ROWS][MAX_VECTORS];
    const float *x[ROWS];
    UNROLL for (int r = 0; r < R; r++) {
        x[r] = step->tile + r * s->stride;
        UNROLL for (int v = 0; v < V; v++)
            sum[r][v] = NAME(broadcast)(0.0f);
    }
    NAME(multiply)(sum, x, panel, s->units, R, V);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++)
            NAME(store_part)(step->grad_inputs[r] + column + v * LANES, sum[r][v], LANES_OF(v));
}

/* R rows and V vectors of [dW | dC | dh]: add up the outer products of n rows of grads and terms. Sums of a block are
   made apart before they are added to what there is, which keeps rounding errors small over very many steps. */
INLINE TARGET void NAME(outer_block)(const Scan *s, float *sums, const float *grads, const float *terms, size_t n,
                                     const int R, const int V)
{
    VEC sum[ROWS][MAX_VECTORS];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++)
            sum[r][v] = NAME(broadcast)(0.0f);
    for (size_t i = 0; i < n; i++, grads += s->stride, terms += s->term_stride) {
        VEC x[MAX_VECTORS];
        UNROLL for (int v = 0; v < V; v++)
            x[v] = NAME(load)(terms + v * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            const VEC factor = NAME(broadcast)(grads[r]);
            UNROLL for (int v = 0; v < V; v++)
                sum[r][v] = NAME(fma)(factor, x[v], sum[r][v]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        float *row = sums + r * s->term_stride;
        UNROLL for (int v = 0; v < V; v++)
            NAME(store)(row + v * LANES, NAME(load)(row + v * LANES) + sum[r][v]);
    }
}

/* One function for each shape of a block, and tables of them by [rows - 1][vectors - 1]. */
#if ACCUMULATORS >= 24
#define SHAPES SHAPES_24
#else
#define SHAPES SHAPES_12
#endif

#define SHAPE_NAME(kind, R, V) JOIN(NAME(kind), R##x##V)
#define STEP_FUNCTION(kind, R, V) \
    static TARGET void SHAPE_NAME(kind, R, V)(const NAME(Step) * step, size_t column, const float *panel) \
    { NAME(kind)(step, column, panel, R, V); }
#define FUNCTIONS(R, V) \
    STEP_FUNCTION(forward_block, R, V) STEP_FUNCTION(backward_block, R, V) STEP_FUNCTION(inputs_block, R, V) \
    static TARGET void SHAPE_NAME(outer_block, R, V)(const Scan *s, float *sums, const float *grads, \
                                                     const float *terms, size_t n) \
    { NAME(outer_block)(s, sums, grads, terms, n, R, V); }
SHAPES(FUNCTIONS)

typedef void (*NAME(StepFunction))(const NAME(Step) *, size_t, const float *);
typedef void (*NAME(OuterFunction))(const Scan *, float *, const float *, const float *, size_t);

#define FORWARD_ENTRY(R, V) [R - 1][V - 1] = SHAPE_NAME(forward_block, R, V),
#define BACKWARD_ENTRY(R, V) [R - 1][V - 1] = SHAPE_NAME(backward_block, R, V),
#define INPUTS_ENTRY(R, V) [R - 1][V - 1] = SHAPE_NAME(inputs_block, R, V),
#define OUTER_ENTRY(R, V) [R - 1][V - 1] = SHAPE_NAME(outer_block, R, V),
static const NAME(StepFunction) NAME(forward_blocks)[ROWS][MAX_VECTORS] = {SHAPES(FORWARD_ENTRY)};
static const NAME(StepFunction) NAME(backward_blocks)[ROWS][MAX_VECTORS] = {SHAPES(BACKWARD_ENTRY)};
static const NAME(StepFunction) NAME(inputs_blocks)[ROWS][MAX_VECTORS] = {SHAPES(INPUTS_ENTRY)};
static const NAME(OuterFunction) NAME(outer_blocks)[ROWS][MAX_VECTORS] = {SHAPES(OUTER_ENTRY)};

/* Call the function for the shape of each panel; `rows` is that of the panels' matrix. */
static TARGET void NAME(run_panels)(const NAME(Step) *step, const NAME(StepFunction) functions[MAX_VECTORS],
                                    const float *panels, size_t rows, size_t columns)
{
    const size_t vectors = ceil_div(columns, LANES), count = ceil_div(vectors, step->scan->vectors);
    for (size_t p = 0; p < count; p++) {
        const size_t first = cut(vectors, count, p), end = cut(vectors, count, p + 1);
        functions[end - first - 1](step, first * LANES, panels + first * LANES * rows);
    }
}

static TARGET void NAME(forward)(const Scan *s, const Sequence *sequences, size_t count, float *tile)
{
    const size_t M = s->units;
    NAME(Step) step = {0};
    step.scan = s;
    float *next = tile + ROWS * s->stride;
    for (size_t r = 0; r < count; r++) {
        const ptrdiff_t b = (ptrdiff_t)sequences[r].index;
        const float *z = s->state + b * s->state_batch;
        for (size_t i = 0; i < M; i++)
            tile[r * s->stride + i] = z[i] < s->floor[i] ? s->floor[i] : z[i];
        step.inputs[r] = s->time ? s->inputs + b * s->inputs_batch : NULL;
        step.before[r] = z;
        step.states[r] = s->states + b * s->states_batch;
    }

    size_t running = count;
    for (size_t t = 0; t < sequences[0].length; t++) {
        while (sequences[running - 1].length <= t)
            running--;
        step.tile = tile, step.next = next;
        NAME(run_panels)(&step, NAME(forward_blocks)[running - 1], s->state_panels, M + s->channels, M);
        for (size_t r = 0; r < running; r++) {
            step.inputs[r] += s->inputs_time;
            step.before[r] = step.states[r];
            step.states[r] += s->states_time;
        }
        float *const swap = tile;
        tile = next, next = swap;
    }

    for (size_t r = 0; r < count; r++) {
        NAME(copy)(s->last + sequences[r].index * M, step.before[r], M);
        if (sequences[r].length < s->time) /* what is written is contiguous */
            memset(step.states[r], 0, (s->time - sequences[r].length) * M * sizeof(float));
    }
}

/* Add what n rows of grads and terms contribute to [dW | dC | dh], and the block's slopes to the others. */
static TARGET void NAME(add_block)(const Scan *s, float *sums, const float *grads, const float *terms, size_t n)
{
    const size_t vectors = ceil_div(s->units + s->channels + 1, LANES);
    const size_t columns = ceil_div(vectors, ACCUMULATORS / ROWS), rows = ceil_div(s->units, ROWS);
    float *slopes = work_slopes(s, sums), *block_slopes = slopes + s->stride;
    for (size_t i = s->linear; i < s->units; i++) {
        slopes[i] += block_slopes[i];
        block_slopes[i] = 0.0f;
    }
    for (size_t c = 0; c < columns; c++) {
        const size_t v = cut(vectors, columns, c), v_end = cut(vectors, columns, c + 1);
        for (size_t b = 0; b < rows; b++) {
            const size_t i = cut(s->units, rows, b), i_end = cut(s->units, rows, b + 1);
            NAME(outer_blocks)[i_end - i - 1][v_end - v - 1](s, sums + i * s->term_stride + v * LANES, grads + i,
                                                            terms + v * LANES, n);
        }
    }
}

/* A row [phi(z_{t-1}) | s_t | 1]; also adds g_t * z_{t-1} to slopes, in the vectors that have nonlinear units. */
INLINE TARGET void NAME(make_terms)(const Scan *s, float *out, const float *z, const float *inputs, const float *grad,
                                    float *slopes)
{
    const size_t M = s->units, K = s->channels;
    for (size_t i = 0; i < M; i += LANES) {
        const VEC x = NAME(load_part)(z + i, M - i < LANES ? M - i : LANES);
        NAME(store)(out + i, NAME(rectify)(x, NAME(load)(s->floor + i)));
        if (i + LANES > s->linear)
            NAME(store)(slopes + i, NAME(fma)(NAME(load)(grad + i), x, NAME(load)(slopes + i)));
    }
    NAME(copy)(out + M, inputs, K);
    out[M + K] = 1.0f;
}

static TARGET void NAME(backward)(const Scan *s, const Sequence *sequences, size_t count, float *sums)
{
    const size_t M = s->units, K = s->channels;
    float *slopes = work_slopes(s, sums) + s->stride, *grads = work_grads(s, sums), *terms = work_terms(s, sums);
    NAME(Step) step = {0};
    step.scan = s;

    size_t running = 0; /* the first rows, whose sequences have at least t steps */
    size_t n = 0;       /* rows of grads and terms that are complete; g_t of the running sequences follows */
    for (size_t t = sequences[0].length; t > 0; t--) {
        float *g = grads + n * s->stride;
        for (; running < count && sequences[running].length == t; running++) {
            const size_t b = sequences[running].index;
            float *row = g + running * s->stride;
            const float *own = s->grad_states;
            own = own ? own + (ptrdiff_t)b * s->grad_states_batch + (ptrdiff_t)(t - 1) * s->grad_states_time : NULL;
            const float *last = s->grad_last ? s->grad_last + b * M : NULL;
            for (size_t i = 0; i < M; i++)
                row[i] = (own ? own[i] : 0.0f) + (last ? last[i] : 0.0f);
        }

        step.tile = g;
        step.next = g + running * s->stride;
        step.terms = terms + n * s->term_stride;
        step.has_grads = s->grad_states != NULL && t > 1;
        for (size_t r = 0; r < running; r++) {
            const size_t b = sequences[r].index;
            const ptrdiff_t at = (ptrdiff_t)b, before = (ptrdiff_t)t - 1; /* row t-1 of inputs is s_t */
            const float *inputs = K ? s->inputs + at * s->inputs_batch + before * s->inputs_time : NULL;
            const float *states = s->states + at * s->states_batch;
            const float *z = t > 1 ? states + (before - 1) * s->states_time : s->state + at * s->state_batch;
            NAME(make_terms)(s, terms + (n + r) * s->term_stride, z, inputs, g + r * s->stride, slopes);
            if (t > 2) {
                prefetch_row(t > 3 ? z - 2 * s->states_time : s->state + at * s->state_batch, M);
                if (K)
                    prefetch_row(inputs - 2 * s->inputs_time, K);
                if (s->grad_states)
                    prefetch_row(s->grad_states + at * s->grad_states_batch + (before - 2) * s->grad_states_time, M);
            }
            if (step.has_grads)
                step.grads[r] = s->grad_states + at * s->grad_states_batch + (before - 1) * s->grad_states_time;
            if (s->grad_inputs) {
                step.grad_inputs[r] = s->grad_inputs + (b * s->time + t - 1) * (K ? K : M);
                if (!K)
                    NAME(copy)(step.grad_inputs[r], g + r * s->stride, M);
            }
        }
        if (K && s->grad_inputs)
            NAME(run_panels)(&step, NAME(inputs_blocks)[running - 1], s->input_panels, M, K);
        NAME(run_panels)(&step, NAME(backward_blocks)[running - 1], s->state_panels, M, M);

        n += running;
        if (n + ROWS > BLOCK_ROWS) {
            NAME(add_block)(s, sums, grads, terms, n);
            memcpy(grads, grads + n * s->stride, running * s->stride * sizeof(float));
            n = 0;
        }
    }
    if (n)
        NAME(add_block)(s, sums, grads, terms, n);

    for (size_t r = 0; r < count; r++) {
        const size_t b = sequences[r].index, length = sequences[r].length, width = K ? K : M;
        if (s->grad_inputs)
            memset(s->grad_inputs + (b * s->time + length) * width, 0, (s->time - length) * width * sizeof(float));
        if (!s->grad_state)
            continue;
        float *out = s->grad_state + b * M;
        if (length)
            NAME(copy)(out, grads + (n + r) * s->stride, M);
        else if (s->grad_last)
            memcpy(out, s->grad_last + b * M, M * sizeof(float));
        else
            memset(out, 0, M * sizeof(float));
    }
}

static const Level NAME(level) = {TEXT(LEVEL), LANES, ACCUMULATORS, NAME(forward), NAME(backward)};

#undef LEVEL
#undef LANES
#undef MASKS
#undef ACCUMULATORS
#undef TARGET
#undef VEC
#undef VEC_AT
#undef LANES_OF
#undef LAST_LANES
#undef SHAPES
#undef SHAPE_NAME
#undef STEP_FUNCTION
#undef FUNCTIONS
#undef FORWARD_ENTRY
#undef BACKWARD_ENTRY
#undef INPUTS_ENTRY
#undef OUTER_ENTRY

#endif
