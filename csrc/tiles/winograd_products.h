/* Winograd's products: m[k] = v[k] u[k] for some positions k of a block of tiles. V and M lie in strips of NNP_STRIP
 * channels, where the positions of a tile follow each other, a cache line each, so that a transform reads or writes one
 * run of memory. U is packed in panels. Each sum is one chain of multiply-adds over the channels, whatever the tile. */

/* What lies further away than the second-level cache, asked for a little at each step of the summed axis, since a
 * burst would hold up the products: what the caller wants next, and the filters after these. */
typedef struct {
    const char *next, *filters;
    ptrdiff_t next_step, filters_step; /* bytes */
} product_asks;

/* One tile, whose rows are `step` apart, a constant where it matters. It asks for the strip of V that the next tile
 * begins with, too. */
NNP_INLINE void product_tile(const int ROWS, const int VECS, const ptrdiff_t step, const nnp_products *s,
                             product_asks *asks, const float *v, const float *u, float *m) {
    vec sum[NNP_TALL_ROWS][NNP_TILE_VECTORS];
    float *to[NNP_TILE_VECTORS];
    const char *next = asks->next, *filters = asks->filters;
    NNP_UNROLL
    for (int j = 0; j < VECS; j++) to[j] = m + j * NNP_VECTOR / NNP_STRIP * s->m_strip + j * NNP_VECTOR % NNP_STRIP;
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++) sum[i][j] = s->accumulate ? vec_load(to[j] + i * step) : vec_zero();
    }
    for (ptrdiff_t depth = s->depth; depth > 0; depth -= NNP_STRIP, v += s->v_strip) {
        const ptrdiff_t lanes = depth < NNP_STRIP ? depth : NNP_STRIP;
        NNP_UNROLL
        for (int i = 0; i < ROWS; i++) NNP_PREFETCH(v + (ROWS + i) * step);
        for (ptrdiff_t k = 0; k < lanes; k++, u += VECS * NNP_VECTOR) {
            vec right[NNP_TILE_VECTORS];
            NNP_UNROLL
            for (int j = 0; j < VECS; j++) right[j] = vec_load(u + j * NNP_VECTOR);
            NNP_PREFETCH_AT(next, 0);
            next += asks->next_step;
            if (VECS > 1) {
                NNP_PREFETCH_AT(filters, 0);
                filters += asks->filters_step;
            }
            NNP_UNROLL
            for (int i = 0; i < ROWS; i++) {
                const vec left = vec_set(v[i * step + k]);
                NNP_UNROLL
                for (int j = 0; j < VECS; j++) sum[i][j] = vec_mul_add(left, right[j], sum[i][j]);
            }
        }
    }
    asks->next = next, asks->filters = filters;
    NNP_UNROLL
    for (int i = 0; i < ROWS; i++) {
        NNP_UNROLL
        for (int j = 0; j < VECS; j++) vec_store(to[j] + i * step, sum[i][j]);
    }
}

NNP_INLINE void product_tiles(const int ROWS, const int VECS, const ptrdiff_t step, const nnp_products *s,
                              product_asks *asks, ptrdiff_t tiles, const float *v, const float *u, float *m) {
    for (ptrdiff_t k = 0; k < s->positions; k++, v += NNP_STRIP, m += NNP_STRIP, u += s->u_step)
        for (ptrdiff_t i = 0; i < tiles; i++)
            product_tile(ROWS, VECS, step, s, asks, v + i * ROWS * step, u, m + i * ROWS * step);
}

/* All positions of `tiles` tiles of ROWS rows each. With short vectors a constant step gains too little for its code.
 */
#define NNP_PRODUCTS(ROWS, VECS)                                                                                       \
    static void products_##ROWS##x##VECS(const nnp_products *s, product_asks *asks, ptrdiff_t tiles, const float *v,   \
                                         const float *u, float *m) {                                                   \
        if (NNP_VECTOR >= 8 && s->tile_step == NNP_TILE_STEP(36))                                                      \
            product_tiles(ROWS, VECS, NNP_TILE_STEP(36), s, asks, tiles, v, u, m);                                     \
        else                                                                                                           \
            product_tiles(ROWS, VECS, s->tile_step, s, asks, tiles, v, u, m);                                          \
    }
#define NNP_PRODUCTS_OF_SIX(VECS)                                                                                      \
    NNP_PRODUCTS(1, VECS)                                                                                              \
    NNP_PRODUCTS(2, VECS) NNP_PRODUCTS(3, VECS) NNP_PRODUCTS(4, VECS) NNP_PRODUCTS(5, VECS) NNP_PRODUCTS(6, VECS)
#define NNP_PRODUCTS_OF_TWELVE(VECS)                                                                                   \
    NNP_PRODUCTS_OF_SIX(VECS)                                                                                          \
    NNP_PRODUCTS(7, VECS)                                                                                              \
    NNP_PRODUCTS(8, VECS)                                                                                              \
    NNP_PRODUCTS(9, VECS) NNP_PRODUCTS(10, VECS) NNP_PRODUCTS(11, VECS) NNP_PRODUCTS(12, VECS)
#define NNP_TALL_PRODUCTS(VECS)                                                                                        \
    NNP_ROWS_OF(products, VECS), products_7x##VECS, products_8x##VECS, products_9x##VECS, products_10x##VECS,          \
        products_11x##VECS, products_12x##VECS

NNP_PRODUCTS_OF_TWELVE(1)
#if NNP_TILE_VECTORS == 4
NNP_PRODUCTS_OF_TWELVE(2)
NNP_PRODUCTS_OF_SIX(3)
NNP_PRODUCTS_OF_SIX(4)
#define NNP_PRODUCTS_TABLE                                                                                             \
    {                                                                                                                  \
        {NNP_TALL_PRODUCTS(1)}, {NNP_TALL_PRODUCTS(2)}, {NNP_ROWS_OF(products, 3)}, { NNP_ROWS_OF(products, 4) }       \
    }
#else
NNP_PRODUCTS_OF_SIX(2)
#define NNP_PRODUCTS_TABLE                                                                                             \
    {                                                                                                                  \
        {NNP_TALL_PRODUCTS(1)}, { NNP_ROWS_OF(products, 2) }                                                           \
    }
#endif

typedef void products_function(const nnp_products *, product_asks *, ptrdiff_t, const float *, const float *, float *);
static products_function *const products_of[NNP_TILE_VECTORS][NNP_TALL_ROWS] = NNP_PRODUCTS_TABLE;

/* Channels that are summed at once: their panel of U stays in the first-level cache for all tiles. */
enum { NNP_PRODUCT_DEPTH = 64 };

/* In as few tiles as the registers allow, the first ones as high as the others or higher by one row. */
static void winograd_products(const nnp_products *s, int cols, const float *v, const float *u, float *m) {
    const int vectors = vectors_across(cols), width = vectors * NNP_VECTOR;
    const ptrdiff_t most = vectors == 1 ? NNP_TALL_ROWS : vectors == 2 ? NNP_PAIR_ROWS : NNP_TILE_ROWS;
    const ptrdiff_t count = (s->tiles + most - 1) / most, rows = (s->tiles + count - 1) / count;
    const ptrdiff_t lower = count * rows - s->tiles, higher = count - lower, done = higher * rows * s->tile_step;
    const ptrdiff_t steps = count * s->depth * s->positions;
    product_asks asks = {(const char *)(s->ask_bytes > 0 ? s->ask : v), NULL, (s->ask_bytes + steps - 1) / steps,
                         (4 * width + count - 1) / count};
    nnp_products part = *s;
    for (ptrdiff_t left = s->depth; left > 0; left -= part.depth) {
        part.depth = left < NNP_PRODUCT_DEPTH ? left : NNP_PRODUCT_DEPTH;
        asks.filters = (const char *)(u + part.depth * width);
        products_of[vectors - 1][rows - 1](&part, &asks, higher, v, u, m);
        if (lower > 0) products_of[vectors - 1][rows - 2](&part, &asks, lower, v + done, u, m + done);
        part.accumulate = 1;
        u += part.depth * width;
        v += part.depth / NNP_STRIP * s->v_strip;
    }
}
