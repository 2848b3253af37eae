// Everything of a pass over BERT that is no matrix product. All numbers are f32; every sum has an order that shapes alone
// decide, so that equal inputs give equal bits. Rows of the batch are padded to `length` tokens; a token's place is
// row * length + position.

typedef unsigned int u32;
typedef unsigned long long u64;

#define WARP 32
#define WARPS 8  // of a block whose warps each take a line

// ---- Dropout: the counter-based masks of model/kernels/dropout.rs, bit for bit.

struct Drop {
    u64 key;
    u32 threshold;
    float scale;  // 0 where nothing is dropped
    u32 first_row;  // of the rows here, in the whole batch
};

__device__ __forceinline__ u64 mix(u64 x) {
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

struct RowMask {
    u32 low, high, threshold;
    float scale;
};

__device__ __forceinline__ RowMask row_mask(Drop drop, u32 site, u32 row) {
    u64 key = mix(drop.key ^ (((u64)site << 32) | (u64)(drop.first_row + row)));
    return RowMask{(u32)key, (u32)(key >> 32), drop.threshold, drop.scale};
}

__device__ __forceinline__ float kept(RowMask mask, u32 counter) {
    u32 x = counter + mask.low;
    x = (x ^ (x >> 16)) * 0x7feb352dU;
    x = (x ^ (x >> 15) ^ mask.high) * 0x846ca68bU;
    x ^= x >> 16;
    return x < mask.threshold ? mask.scale : 0.0f;
}

// ---- Sums within a warp: a fixed tree, the same value in every lane.

__device__ __forceinline__ float warp_sum(float x) {
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, step));
    return x;
}

// The line that this warp takes.
__device__ __forceinline__ int line_of_warp() { return blockIdx.x * WARPS + threadIdx.x / WARP; }

// ---- Embeddings

extern "C" __global__ void embed(const u32* ids, const float* words, const float* positions, const float* types, float* out,
                                 int tokens, int length, int hidden) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= tokens * hidden) return;
    int token = i / hidden, h = i % hidden;
    out[i] = words[ids[token] * hidden + h] + types[h] + positions[(token % length) * hidden + h];
}

// One line of `words` numbers for each token, 1 at its word.
extern "C" __global__ void one_hot(const u32* ids, float* out, int tokens, int words) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= tokens * words) return;
    out[i] = ids[i / words] == (u32)(i % words) ? 1.0f : 0.0f;
}

// The gradient of the first `length` positions.
extern "C" __global__ void positions_backward(const float* dx, float* out, int rows, int length, int hidden) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= length * hidden) return;
    float sum = 0.0f;
    for (int row = 0; row < rows; row++) sum += dx[(size_t)row * length * hidden + i];
    out[i] = sum;
}

// ---- LayerNorm

// y = norm(residual + drop(x + bias)); x becomes the row with mean 0 and variance 1. With `after`, y is dropped from
// instead: the embeddings. `residual` and `bias` may be null.
extern "C" __global__ void norm_forward(float* x, const float* bias, const float* residual, const float* scale, const float* shift,
                                        float* inverse, float* y, int tokens, int length, int hidden, float epsilon, Drop drop,
                                        u32 site, int after) {
    int token = line_of_warp(), lane = threadIdx.x % WARP;
    if (token >= tokens) return;
    RowMask mask = row_mask(drop, site, token / length);
    u32 counter = (u32)(token % length) * hidden;
    size_t at = (size_t)token * hidden;
    bool before = drop.scale > 0.0f && !after;
    float sum = 0.0f;
    for (int h = lane; h < hidden; h += WARP) {
        float v = x[at + h];
        if (bias) v += bias[h];
        if (before) v *= kept(mask, counter + h);
        if (residual) v += residual[at + h];
        x[at + h] = v;
        sum += v;
    }
    float mean = warp_sum(sum) / hidden, squares = 0.0f;
    for (int h = lane; h < hidden; h += WARP) {
        float centred = x[at + h] - mean;
        squares += centred * centred;
    }
    float inv = 1.0f / sqrtf(warp_sum(squares) / hidden + epsilon);
    if (lane == 0) inverse[token] = inv;
    for (int h = lane; h < hidden; h += WARP) {
        float unit = (x[at + h] - mean) * inv;
        x[at + h] = unit;
        float out = unit * scale[h] + shift[h];
        if (after && drop.scale > 0.0f) out *= kept(mask, counter + h);
        y[at + h] = out;
    }
}

// From the gradient dy + more of y: dy becomes what reaches scale and shift, dx the gradient of the sum under the norm,
// branch that of x + bias, before dropout. `more` and `branch` may be null.
extern "C" __global__ void norm_backward(float* dy, const float* more, const float* unit, const float* inverse, const float* scale,
                                         float* dx, float* branch, int tokens, int length, int hidden, Drop drop, u32 site,
                                         int after) {
    int token = line_of_warp(), lane = threadIdx.x % WARP;
    if (token >= tokens) return;
    RowMask mask = row_mask(drop, site, token / length);
    u32 counter = (u32)(token % length) * hidden;
    size_t at = (size_t)token * hidden;
    float sum = 0.0f, with_unit = 0.0f;
    for (int h = lane; h < hidden; h += WARP) {
        float d = dy[at + h];
        if (more) d += more[at + h];
        if (after && drop.scale > 0.0f) d *= kept(mask, counter + h);
        dy[at + h] = d;
        float scaled = d * scale[h];
        sum += scaled;
        with_unit += scaled * unit[at + h];
    }
    float mean = warp_sum(sum) / hidden, slope = warp_sum(with_unit) / hidden, inv = inverse[token];
    for (int h = lane; h < hidden; h += WARP) {
        float d = inv * (dy[at + h] * scale[h] - mean - unit[at + h] * slope);
        dx[at + h] = d;
        if (branch) branch[at + h] = drop.scale > 0.0f && !after ? d * kept(mask, counter + h) : d;
    }
}

// ---- Sums over tokens: for each column, of x, and of x * y where y is given; in SLICES parts, then over those.

#define SLICES 32

extern "C" __global__ void columns(const float* x, const float* y, float* parts, int tokens, int width) {
    __shared__ float shared[2][WARPS][WARP];
    int column = blockIdx.x * WARP + threadIdx.x;
    int each = (tokens + SLICES - 1) / SLICES, from = blockIdx.y * each, to = min(from + each, tokens);
    float sum = 0.0f, dot = 0.0f;
    if (column < width) {
        for (int token = from + threadIdx.y; token < to; token += WARPS) {
            float v = x[(size_t)token * width + column];
            sum += v;
            if (y) dot += v * y[(size_t)token * width + column];
        }
    }
    shared[0][threadIdx.y][threadIdx.x] = sum;
    shared[1][threadIdx.y][threadIdx.x] = dot;
    __syncthreads();
    if (threadIdx.y != 0 || column >= width) return;
    for (int i = 1; i < WARPS; i++) {
        sum += shared[0][i][threadIdx.x];
        dot += shared[1][i][threadIdx.x];
    }
    parts[(size_t)blockIdx.y * width + column] = sum;
    parts[(size_t)(SLICES + blockIdx.y) * width + column] = dot;
}

// `dots` may be null.
extern "C" __global__ void columns_end(const float* parts, float* sums, float* dots, int width) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0.0f, dot = 0.0f;
    for (int i = 0; i < SLICES; i++) {
        sum += parts[(size_t)i * width + column];
        dot += parts[(size_t)(SLICES + i) * width + column];
    }
    sums[column] = sum;
    if (dots) dots[column] = dot;
}

// ---- GELU, the form with erf

extern "C" __global__ void gelu_forward(float* x, const float* bias, float* y, int count, int width) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float v = x[i] + bias[i % width];
    x[i] = v;
    y[i] = 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
}

extern "C" __global__ void gelu_again(const float* x, float* y, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float v = x[i];
    y[i] = 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
}

extern "C" __global__ void gelu_backward(float* dy, const float* x, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float v = x[i];
    float slope = 0.5f * (1.0f + erff(v * 0.70710678118654752f)) + v * 0.39894228040143268f * expf(-0.5f * v * v);
    dy[i] *= slope;
}

// ---- Attention: heads lie as [which][row][head][position][width], tokens as [row][position][which][head][width].

extern "C" __global__ void split_heads(const float* x, const float* bias, float* out, int rows, int length, int heads, int width,
                                       int which) {
    int hidden = heads * width, across = which * hidden;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * length * across) return;
    int token = i / across, c = i % across;
    int part = c / hidden, head = c % hidden / width, w = c % width;
    int row = token / length, position = token % length;
    float v = x[i];
    if (bias) v += bias[c];
    out[((((size_t)part * rows + row) * heads + head) * length + position) * width + w] = v;
}

extern "C" __global__ void merge_heads(const float* x, float* out, int rows, int length, int heads, int width, int which) {
    int hidden = heads * width, across = which * hidden;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * length * across) return;
    int token = i / across, c = i % across;
    int part = c / hidden, head = c % hidden / width, w = c % width;
    int row = token / length, position = token % length;
    out[i] = x[((((size_t)part * rows + row) * heads + head) * length + position) * width + w];
}

__device__ __forceinline__ u32 weight_counter(int line, int length, int heads, u32 positions) {
    u32 head = line / length % heads, query = line % length;
    return (head * positions + query) * positions;
}

// Scores of a query become its weights; `dropped` is what is left of them, and may be null.
extern "C" __global__ void softmax_forward(float* scores, float* dropped, const u32* lengths, int lines, int length, int heads,
                                           u32 positions, float factor, Drop drop, u32 site) {
    int line = line_of_warp(), lane = threadIdx.x % WARP;
    if (line >= lines) return;
    int row = line / length / heads, keys = lengths[row];
    size_t at = (size_t)line * length;
    float top = -INFINITY, sum = 0.0f;
    for (int k = lane; k < keys; k += WARP) top = fmaxf(top, scores[at + k] * factor);
    top = warp_max(top);
    for (int k = lane; k < keys; k += WARP) {
        float e = expf(scores[at + k] * factor - top);
        scores[at + k] = e;
        sum += e;
    }
    float inv = 1.0f / warp_sum(sum);
    RowMask mask = row_mask(drop, site, row);
    u32 counter = weight_counter(line, length, heads, positions);
    for (int k = lane; k < length; k += WARP) {
        float weight = k < keys ? scores[at + k] * inv : 0.0f;
        scores[at + k] = weight;
        if (dropped) dropped[at + k] = drop.scale > 0.0f ? weight * kept(mask, counter + k) : weight;
    }
}

// What dropout left of the weights, once more.
extern "C" __global__ void drop_weights(const float* weights, float* dropped, int lines, int length, int heads, u32 positions,
                                        Drop drop, u32 site) {
    int line = line_of_warp(), lane = threadIdx.x % WARP;
    if (line >= lines) return;
    RowMask mask = row_mask(drop, site, line / length / heads);
    u32 counter = weight_counter(line, length, heads, positions);
    size_t at = (size_t)line * length;
    for (int k = lane; k < length; k += WARP) dropped[at + k] = weights[at + k] * kept(mask, counter + k);
}

// The gradient of dropped weights becomes that of query times key.
extern "C" __global__ void softmax_backward(float* d, const float* weights, int lines, int length, int heads, u32 positions,
                                            float factor, Drop drop, u32 site) {
    int line = line_of_warp(), lane = threadIdx.x % WARP;
    if (line >= lines) return;
    RowMask mask = row_mask(drop, site, line / length / heads);
    u32 counter = weight_counter(line, length, heads, positions);
    size_t at = (size_t)line * length;
    float sum = 0.0f;
    for (int k = lane; k < length; k += WARP) {
        float g = d[at + k];
        if (drop.scale > 0.0f) g *= kept(mask, counter + k);
        d[at + k] = g;
        sum += g * weights[at + k];
    }
    sum = warp_sum(sum);
    for (int k = lane; k < length; k += WARP) d[at + k] = weights[at + k] * (d[at + k] - sum) * factor;
}

// ---- The head: first tokens, pooler, one number for each row

extern "C" __global__ void gather_first(const float* x, float* out, int rows, int length, int hidden) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * hidden) return;
    out[i] = x[(size_t)(i / hidden) * length * hidden + i % hidden];
}

// First tokens get their gradient, all others 0.
extern "C" __global__ void scatter_first(const float* d, float* out, int rows, int length, int hidden) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * length * hidden) return;
    int token = i / hidden;
    out[i] = token % length == 0 ? d[token / length * hidden + i % hidden] : 0.0f;
}

extern "C" __global__ void pool_forward(float* pooled, const float* bias, float* dropped, int rows, int hidden, Drop drop, u32 site) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * hidden) return;
    int row = i / hidden, h = i % hidden;
    float v = tanhf(pooled[i] + bias[h]);
    pooled[i] = v;
    dropped[i] = drop.scale > 0.0f ? v * kept(row_mask(drop, site, row), h) : v;
}

extern "C" __global__ void head_forward(const float* dropped, const float* weight, const float* bias, float* out, int rows,
                                        int hidden) {
    int row = line_of_warp(), lane = threadIdx.x % WARP;
    if (row >= rows) return;
    float sum = 0.0f;
    for (int h = lane; h < hidden; h += WARP) sum += dropped[(size_t)row * hidden + h] * weight[h];
    sum = warp_sum(sum);
    if (lane == 0) out[row] = sum + bias[0];
}

// The rows' share of the mean loss over a batch of `of` rows, and its slope at each output; squared error where `delta` is
// negative, Huber's otherwise. One block.
extern "C" __global__ void loss_and_slope(const float* out, const float* targets, float* slopes, float* loss, int rows, int of,
                                          float delta) {
    __shared__ float shared[256];
    float sum = 0.0f;
    for (int row = threadIdx.x; row < rows; row += 256) {
        float d = out[row] - targets[row], size = fabsf(d), near = fminf(size, delta);
        sum += delta < 0.0f ? d * d : near * (size - 0.5f * near);
        slopes[row] = (delta < 0.0f ? 2.0f * d : copysignf(near, d)) / of;
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if (threadIdx.x < step) shared[threadIdx.x] += shared[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) *loss = shared[0] / of;
}

// From the slopes: gradients of the head's weight and bias, and of the pooler before tanh (`d`) with its bias.
extern "C" __global__ void head_backward(const float* slopes, const float* dropped, const float* pooled, const float* weight,
                                         float* dweight, float* dbias, float* d, float* dpool, int rows, int hidden, Drop drop,
                                         u32 site) {
    int h = blockIdx.x * blockDim.x + threadIdx.x;
    if (h >= hidden) return;
    float of_weight = 0.0f, of_pool = 0.0f, of_bias = 0.0f;
    for (int row = 0; row < rows; row++) {
        size_t i = (size_t)row * hidden + h;
        float slope = slopes[row], v = pooled[i];
        of_weight += slope * dropped[i];
        of_bias += slope;
        float g = slope * weight[h] * (1.0f - v * v);
        if (drop.scale > 0.0f) g *= kept(row_mask(drop, site, row), h);
        d[i] = g;
        of_pool += g;
    }
    dweight[h] = of_weight;
    dpool[h] = of_pool;
    if (h == 0) dbias[0] = of_bias;
}

// ---- The optimiser

extern "C" __global__ void adamw(float* p, float* m, float* v, const float* g, size_t count, float clip, float keep, float rate,
                                 float root) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float d = g[i] * clip;
    float first = m[i] * 0.9f + d * (float)(1.0 - 0.9);
    float second = v[i] * 0.999f + d * d * (float)(1.0 - 0.999);
    m[i] = first;
    v[i] = second;
    p[i] = p[i] * keep - rate * first / (sqrtf(second) * root + 1e-8f);
}

// The sum of squares: 1024 parts, then their sum.
#define PARTS 1024

__device__ double block_sum(double x) {
    __shared__ double shared[256];
    shared[threadIdx.x] = x;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if (threadIdx.x < step) shared[threadIdx.x] += shared[threadIdx.x + step];
        __syncthreads();
    }
    return shared[0];
}

extern "C" __global__ void squares(const float* g, double* parts, size_t count) {
    double sum = 0.0;
    for (size_t i = (size_t)blockIdx.x * 256 + threadIdx.x; i < count; i += (size_t)PARTS * 256) sum += (double)g[i] * (double)g[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// The loss is put behind it: both are read at once.
extern "C" __global__ void squares_end(const double* parts, const float* loss, double* out) {
    double sum = 0.0;
    for (int i = threadIdx.x; i < PARTS; i += 256) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    *out = sum;
    *(float*)(out + 1) = *loss;
}

// ---- Several ranks: the sum of a part that each of them sent, in their order

extern "C" __global__ void add_ranks(const float* received, float* sums, size_t part, int ranks) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= part) return;
    float sum = received[i];
    for (int rank = 1; rank < ranks; rank++) sum += received[(size_t)rank * part + i];
    sums[i] = sum;
}

// ---- bfloat16: to the nearest, ties to even

extern "C" __global__ void round_to_bf16(const float* x, unsigned short* out, size_t count) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    u32 bits = __float_as_uint(x[i]);
    bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
    out[i] = is_nan ? (unsigned short)((bits >> 16) | 0x40) : (unsigned short)((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
