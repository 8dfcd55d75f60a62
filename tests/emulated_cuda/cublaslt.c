// A cuBLASLt that multiplies by loops, by the rules of NVIDIA's documentation (https://docs.nvidia.com/cuda/cublas/), on memory that
// the host can read. What it does not know or what is not allowed ends in CUBLAS_STATUS_INVALID_VALUE, with the reason on stderr.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status;

enum { SUCCESS = 0, INVALID_VALUE = 7 };
enum { F32 = 0, BF16 = 14 };                  // cudaDataType
enum { SUMS_F32 = 68, SUMS_F32_TF32 = 77 };   // cublasComputeType_t
enum { EPILOGUE_NONE = 1, EPILOGUE_BIAS = 4 };
enum { CHOSEN = 42 };

// Matrices by columns.
typedef struct { int type; uint64_t rows, columns; int64_t leading; int32_t batch; int64_t apart; } Layout;
typedef struct { int compute, scale; int32_t transposes_a, transposes_b, epilogue; const void *bias; } Description;
typedef struct { uint64_t workspace; uint32_t alignment[4]; } Preference;
typedef struct { uint64_t data[8]; } Algorithm;
typedef struct { Algorithm algorithm; size_t workspace; Status status; float waves; int reserved[4]; } Found;

static long products, choices;

#define REFUSE(...)                       \
    do {                                  \
        fprintf(stderr, "[cublasLt] ");   \
        fprintf(stderr, __VA_ARGS__);     \
        fputc('\n', stderr);              \
        return INVALID_VALUE;             \
    } while (0)

__attribute__((destructor)) static void summary(void) {
    if (getenv("EMULATED_CUDA_SUM")) fprintf(stderr, "[cublasLt] %ld products, %ld choices\n", products, choices);
}

Status cublasLtCreate(void **handle) { *handle = malloc(8); return SUCCESS; }
Status cublasLtDestroy(void *handle) { free(handle); return SUCCESS; }

Status cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    if (!rows || !columns || leading < (int64_t)rows) REFUSE("%lu x %lu with leading dimension %ld", rows, columns, leading);
    if (type != F32 && type != BF16) REFUSE("type %d", type);
    *layout = calloc(1, sizeof **layout);
    **layout = (Layout){.type = type, .rows = rows, .columns = columns, .leading = leading, .batch = 1};
    return SUCCESS;
}
Status cublasLtMatrixLayoutDestroy(Layout *layout) { free(layout); return SUCCESS; }

Status cublasLtMatrixLayoutSetAttribute(Layout *layout, int attribute, const void *value, size_t bytes) {
    if (attribute == 5 && bytes == 4) layout->batch = *(const int32_t *)value;
    else if (attribute == 6 && bytes == 8) layout->apart = *(const int64_t *)value;
    else REFUSE("attribute %d of a layout with %zu bytes", attribute, bytes);
    return SUCCESS;
}

Status cublasLtMatmulDescCreate(Description **description, int compute, int scale) {
    *description = calloc(1, sizeof **description);
    **description = (Description){.compute = compute, .scale = scale, .epilogue = EPILOGUE_NONE};
    return SUCCESS;
}
Status cublasLtMatmulDescDestroy(Description *description) { free(description); return SUCCESS; }

Status cublasLtMatmulDescSetAttribute(Description *description, int attribute, const void *value, size_t bytes) {
    if (attribute == 3 && bytes == 4) description->transposes_a = *(const int32_t *)value;
    else if (attribute == 4 && bytes == 4) description->transposes_b = *(const int32_t *)value;
    else if (attribute == 7 && bytes == 4) description->epilogue = *(const int32_t *)value;
    else if (attribute == 8 && bytes == 8) description->bias = *(void *const *)value;
    else REFUSE("attribute %d of a description with %zu bytes", attribute, bytes);
    return SUCCESS;
}

Status cublasLtMatmulPreferenceCreate(Preference **preference) {
    *preference = calloc(1, sizeof **preference);
    **preference = (Preference){.alignment = {256, 256, 256, 256}};
    return SUCCESS;
}
Status cublasLtMatmulPreferenceDestroy(Preference *preference) { free(preference); return SUCCESS; }

Status cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute, const void *value, size_t bytes) {
    if (attribute == 1 && bytes == 8) preference->workspace = *(const uint64_t *)value;
    else if (attribute >= 5 && attribute <= 8 && bytes == 4) preference->alignment[attribute - 5] = *(const uint32_t *)value;
    else REFUSE("attribute %d of a preference with %zu bytes", attribute, bytes);
    return SUCCESS;
}

static Status check(const Description *of, const Layout *a, const Layout *b, const Layout *c, const Layout *d) {
    uint64_t m = of->transposes_a ? a->columns : a->rows, k = of->transposes_a ? a->rows : a->columns;
    uint64_t l = of->transposes_b ? b->columns : b->rows, n = of->transposes_b ? b->rows : b->columns;
    if (k != l || d->rows != m || d->columns != n) REFUSE("%lu x %lu by %lu x %lu is not %lu x %lu", m, k, l, n, d->rows, d->columns);
    if (c->rows != d->rows || c->columns != d->columns || c->type != d->type) REFUSE("C is not as D");
    if (a->type != b->type || (a->type != d->type && d->type != F32)) REFUSE("types %d, %d and %d", a->type, b->type, d->type);
    if (of->compute != SUMS_F32 && (of->compute != SUMS_F32_TF32 || a->type != F32)) REFUSE("compute type %d of type %d", of->compute, a->type);
    if (of->scale != F32) REFUSE("scale of type %d", of->scale);
    if (a->batch != d->batch || b->batch != d->batch || c->batch != d->batch) REFUSE("batches %d, %d and %d", a->batch, b->batch, d->batch);
    if (of->epilogue != EPILOGUE_NONE && of->epilogue != EPILOGUE_BIAS) REFUSE("epilogue %d", of->epilogue);
    return SUCCESS;
}

Status cublasLtMatmulAlgoGetHeuristic(void *handle, const Description *of, const Layout *a, const Layout *b, const Layout *c, const Layout *d,
                                      const Preference *preference, int wanted, Found *found, int *count) {
    Status status = check(of, a, b, c, d);
    __sync_add_and_fetch(&choices, 1);
    *count = status == SUCCESS;
    *found = (Found){.algorithm = {{CHOSEN, preference->alignment[0], preference->alignment[1], preference->alignment[3], preference->workspace}},
                     .status = status};
    return status;
}

static float read(const void *from, int type, int64_t at) {
    if (type == F32) return ((const float *)from)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)from)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Rounded to the nearest, and to even where two are as near.
static void write(void *to, int type, int64_t at, float value) {
    uint32_t bits;
    if (type == F32) {
        ((float *)to)[at] = value;
        return;
    }
    memcpy(&bits, &value, sizeof bits);
    ((uint16_t *)to)[at] = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

static int64_t place(const Layout *of, int transposes, int64_t batch, int64_t row, int64_t column) {
    return batch * of->apart + (transposes ? column + row * of->leading : row + column * of->leading);
}

enum { LANES = 8 };

// Row by row, or column by column if so told, filled up with zeros to whole LANES.
static float *pack(const void *from, const Layout *of, int transposes, int64_t batch, int64_t outer, int64_t inner, int by_columns) {
    int64_t width = (inner + LANES - 1) / LANES * LANES;
    float *packed = calloc(outer * width, sizeof *packed);
    for (int64_t i = 0; i < outer; i++)
        for (int64_t l = 0; l < inner; l++)
            packed[i * width + l] = read(from, of->type, by_columns ? place(of, transposes, batch, l, i) : place(of, transposes, batch, i, l));
    return packed;
}

static double dot(const float *a, const float *b, int64_t k) {
    double sums[LANES] = {0}, sum = 0;
    for (int64_t l = 0; l < k; l += LANES)
        for (int i = 0; i < LANES; i++) sums[i] += (double)a[l + i] * b[l + i];
    for (int i = 0; i < LANES; i++) sum += sums[i];
    return sum;
}

Status cublasLtMatmul(void *handle, const Description *of, const float *alpha, const void *A, const Layout *a, const void *B, const Layout *b,
                      const float *beta, const void *C, const Layout *c, void *D, const Layout *d, const Algorithm *algorithm,
                      void *workspace, size_t bytes, void *stream) {
    const void *matrices[] = {A, B, D};
    int64_t k = of->transposes_a ? a->rows : a->columns;
    __sync_add_and_fetch(&products, 1);
    if (check(of, a, b, c, d)) return INVALID_VALUE;
    if (algorithm->data[0] != CHOSEN) REFUSE("an algorithm that was not chosen");
    for (int i = 0; i < 3; i++)
        if ((uintptr_t)matrices[i] % algorithm->data[i + 1]) REFUSE("%p is not aligned to %lu bytes", matrices[i], algorithm->data[i + 1]);
    if ((uintptr_t)workspace % 256 || bytes < algorithm->data[4]) REFUSE("workspace %p of %zu bytes", workspace, bytes);
    if (!stream) REFUSE("the default stream");
    if (getenv("EMULATED_CUDA_LOG"))
        fprintf(stderr, "[cublasLt] product %lu x %lu x %ld, batch %d, types %d to %d, transposes %d %d, leading %ld %ld %ld, apart %ld %ld %ld, scale %g\n",
                d->rows, d->columns, k, d->batch, a->type, d->type, of->transposes_a, of->transposes_b, a->leading, b->leading, d->leading,
                a->apart, b->apart, d->apart, *alpha);
    if (getenv("EMULATED_CUDA_SKIP")) return SUCCESS;
    int64_t m = d->rows, n = d->columns, width = (k + LANES - 1) / LANES * LANES;
    for (int64_t batch = 0; batch < d->batch; batch++) {
        float *left = pack(A, a, of->transposes_a, batch, m, k, 0), *right = pack(B, b, of->transposes_b, batch, n, k, 1);
        for (int64_t column = 0; column < n; column++)
            for (int64_t row = 0; row < m; row++) {
                float value = *alpha * dot(left + row * width, right + column * width, width);
                if (*beta) value += *beta * read(C, c->type, place(c, 0, batch, row, column));
                if (of->epilogue == EPILOGUE_BIAS) value += read(of->bias, d->type, row);
                write(D, d->type, place(d, 0, batch, row, column), value);
            }
        free(left), free(right);
    }
    return SUCCESS;
}
