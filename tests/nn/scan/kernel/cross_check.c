/*
 * Checks the kernel against plain loops in double without Python, for processors that are only emulated here:
 *
 *     aarch64-linux-gnu-gcc -O2 -static -I"$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
 *         cross_check.c -o cross_check -lm -pthread -Wl,--unresolved-symbols=ignore-all && qemu-aarch64-static ./cross_check
 *
 * (The Python functions that the module's glue calls stay unresolved; nothing here reaches them.)
 */
#include "_kernel.c"
#include <stdio.h>

static double uniform(void) { return 2.0 * rand() / RAND_MAX - 1.0; }

static float *fill(size_t n, double scale)
{
    float *x = malloc((n + 1) * sizeof(float));
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * uniform());
    return x;
}

static double worst = 0;

static void compare(const char *name, const float *x, const double *y, size_t n)
{
    double scale = 0.1, error = 0; /* a sum may cancel */
    for (size_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs(y[i]));
        error = fmax(error, isnan(x[i]) ? INFINITY : fabs(x[i] - y[i]));
    }
    worst = fmax(worst, error / scale);
    if (!(error <= 2e-5 * scale)) {
        printf("%s: error %g of %g\n", name, error, scale);
        exit(1);
    }
}

/* The same network E times over in one call: each copy must equal the single one, bit for bit where one thread takes all
   of it. */
static void check_stack(const Scan *f, const Scan *r, const float *a, Matrix W, Matrix C, const float *h, int64_t P,
                        const int64_t *lengths, size_t threads, const float *states, const float *ga, const float *gW,
                        const float *gC, const float *gh)
{
    const size_t E = 5, B = f->batch, T = f->time, M = f->units, K = f->channels, D = K ? K : M;
    Networks n = {.first = *f, .count = E, .A = a, .h = h, .W = W, .C = C, .P = &P, .lengths = lengths};
    n.first.states = fill(E * B * T * M, 1), n.first.last = fill(E * B * M, 1);
    n.states_stride = (ptrdiff_t)(B * T * M);
    if (!run_networks(&n, threads))
        exit(2);
    for (size_t e = 0; e < E; e++)
        if (memcmp(n.first.states + e * B * T * M, states, B * T * M * sizeof(float)))
            exit(3);
    float *all = n.first.states, *last = n.first.last;
    n.first = *r, n.first.states = all, n.backward = 1;
    n.first.grad_inputs = fill(E * B * T * D, 1), n.first.grad_state = fill(E * B * M, 1);
    n.grad_A = fill(E * M, 1), n.grad_W = fill(E * M * M, 1), n.grad_C = fill(E * M * K, 1), n.grad_h = fill(E * M, 1);
    if (!run_networks(&n, threads))
        exit(2);
    const float *single[] = {r->grad_inputs, r->grad_state, ga, gW, gC, gh};
    float *stacked[] = {n.first.grad_inputs, n.first.grad_state, n.grad_A, n.grad_W, n.grad_C, n.grad_h};
    const size_t sizes[] = {B * T * D, B * M, M, M * M, M * K, M};
    for (size_t i = 0; i < 6; i++) {
        double *exact = calloc(sizes[i] + 1, 8);
        for (size_t j = 0; j < sizes[i]; j++)
            exact[j] = single[i][j];
        for (size_t e = 0; e < E; e++) {
            if (threads == 1 && memcmp(stacked[i] + e * sizes[i], single[i], sizes[i] * sizeof(float)))
                exit(4);
            compare("stack", stacked[i] + e * sizes[i], exact, sizes[i]);
        }
        free(exact);
        free(stacked[i]);
    }
    free(all), free(last);
}

static void check_case(size_t B, size_t T, size_t M, size_t P, size_t K, size_t threads)
{
    const size_t L = M - P, D = K ? K : M, S = (T + 1) * M;
    float *s = fill(B * T * D, 1), *z0 = fill(B * M, 1), *a = fill(M, 0.4), *W = fill(M * M, 0.5 / M), *h = fill(M, 1);
    float *C = fill(M * K, 1), *gs = fill(B * T * M, 1), *gl = fill(B * M, 1);
    float *states = fill(B * T * M, 1), *last = fill(B * M, 1), *gi = fill(B * T * D, 1), *gz = fill(B * M, 1);
    float *ga = fill(M, 1), *gW = fill(M * M, 1), *gC = fill(M * K, 1), *gh = fill(M, 1);
    double *z = calloc(B * S, 8), *di = calloc(B * T * D + 1, 8), *dz = calloc(B * M, 8), *da = calloc(M, 8);
    double *dW = calloc(M * M, 8), *dC = calloc(M * K + 1, 8), *dh = calloc(M, 8), *g = calloc(M, 8), *q = calloc(M, 8);
    int64_t *lengths = calloc(B, 8);
    for (size_t b = 0; b < B; b++)
        lengths[b] = rand() % (T + 1);

    for (size_t b = 0; b < B; b++) {
        double *zb = z + b * S;
        const size_t n = (size_t)lengths[b];
        for (size_t i = 0; i < M; i++)
            zb[i] = z0[b * M + i];
        for (size_t t = 1; t <= n; t++)
            for (size_t i = 0; i < M; i++) {
                const double *p = zb + (t - 1) * M;
                double x = a[i] * p[i] + h[i] + (K ? 0 : s[(b * T + t - 1) * D + i]);
                for (size_t j = 0; j < M; j++)
                    x += W[i * M + j] * (j >= L && p[j] < 0 ? 0 : p[j]);
                for (size_t k = 0; k < K; k++)
                    x += C[i * K + k] * s[(b * T + t - 1) * D + k];
                zb[t * M + i] = x;
            }
        for (size_t i = 0; i < M; i++)
            g[i] = gl[b * M + i];
        for (size_t t = n; t > 0; t--) {
            const double *p = zb + (t - 1) * M;
            for (size_t i = 0; i < M; i++)
                g[i] += gs[(b * T + t - 1) * M + i];
            for (size_t i = 0; i < M; i++) {
                da[i] += g[i] * p[i];
                dh[i] += g[i];
                if (!K)
                    di[(b * T + t - 1) * D + i] = g[i];
                for (size_t j = 0; j < M; j++)
                    dW[i * M + j] += g[i] * (j >= L && p[j] < 0 ? 0 : p[j]);
                for (size_t k = 0; k < K; k++) {
                    dC[i * K + k] += g[i] * s[(b * T + t - 1) * D + k];
                    di[(b * T + t - 1) * D + k] += g[i] * C[i * K + k];
                }
            }
            for (size_t j = 0; j < M; j++) {
                q[j] = a[j] * g[j];
                for (size_t i = 0; i < M; i++)
                    q[j] += j >= L && p[j] <= 0 ? 0 : W[i * M + j] * g[i];
            }
            memcpy(g, q, M * 8);
        }
        memcpy(dz + b * M, g, M * 8);
    }

    for (size_t l = 0; l < LEVELS; l++) {
        if (!runs_here(all_levels[l]))
            continue;
        Scan f = {.batch = B, .time = T, .units = M, .channels = K, .linear = L, .level = all_levels[l]};
        f.inputs = s, f.inputs_batch = (ptrdiff_t)(T * D), f.inputs_time = (ptrdiff_t)D;
        f.state = z0, f.state_batch = (ptrdiff_t)M;
        f.states = states, f.states_batch = (ptrdiff_t)(T * M), f.states_time = (ptrdiff_t)M, f.last = last;
        const Matrix Wm = {W, (ptrdiff_t)M, 1}, Cm = {C, (ptrdiff_t)K, 1};
        Scan r = f;
        r.grad_states = gs, r.grad_states_batch = (ptrdiff_t)(T * M), r.grad_states_time = (ptrdiff_t)M;
        r.grad_last = gl, r.grad_inputs = gi, r.grad_state = gz;
        if (!scan_forward(&f, a, Wm, Cm, h, lengths, threads) ||
            !scan_backward(&r, a, Wm, Cm, lengths, threads, ga, gW, gC, gh))
            exit(2);
        check_stack(&f, &r, a, Wm, Cm, h, (int64_t)P, lengths, threads, states, ga, gW, gC, gh);
        for (size_t b = 0; b < B; b++) {
            compare("states", states + b * T * M, z + b * S + M, T * M);
            compare("last", last + b * M, z + b * S + (size_t)lengths[b] * M, M);
        }
        compare("inputs", gi, di, B * T * D);
        compare("z0", gz, dz, B * M);
        compare("a", ga, da, M);
        compare("W", gW, dW, M * M);
        compare("C", gC, dC, M * K);
        compare("h", gh, dh, M);
    }
    void *all[] = {s, z0, a, W, h, C, gs, gl, states, last, gi, gz, ga, gW, gC, gh, z, di, dz, da, dW, dC, dh, g, q, lengths};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        free(all[i]);
}

int main(void)
{
    static const size_t batches[] = {1, 5, 6, 7, 20}, times[] = {1, 2, 40}, units[] = {1, 2, 3, 17, 32, 50},
                        channels[] = {0, 1, 3, 21};
    size_t cases = 0;
    for (size_t b = 0; b < 5; b++)
        for (size_t t = 0; t < 3; t++)
            for (size_t m = 0; m < 6; m++)
                for (size_t p = 0; p < 3; p++)
                    for (size_t k = 0; k < 4; k++, cases++)
                        check_case(batches[b], times[t], units[m], p == 2 ? units[m] : p, channels[k], 1 + cases % 3);
    printf("%zu cases, best level %s, largest error %.2g\n", cases, choose_level()->name, worst);
    return 0;
}
