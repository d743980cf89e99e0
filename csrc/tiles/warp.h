/* A row of an image that is another one's, moved and recoloured. WARP pixels at a time: places, then channels, are
 * loops that the compiler turns into vectors; what lies between is read pixel by pixel. */
#include <math.h>

enum { WARP = 16 };

/* Of some pixels: which are inside the image, the four pixels around each, as offsets in bytes, and how far it is from
 * the first of them. */
typedef struct {
    double down[WARP], right[WARP];
    ptrdiff_t at[4][WARP];
    int inside[WARP], between[WARP];
} warp_places;

static double warp_clip(double at, double last) {
    return at < 0.0 ? 0.0 : at > last ? last : at;
}

static void warp_find(const nnp_warp *w, ptrdiff_t i, ptrdiff_t first, ptrdiff_t n, warp_places *p) {
    const double *m = w->map, bottom = (double)w->height - 1.0, side = (double)w->width - 1.0;
    for (ptrdiff_t k = 0; k < n; k++) {
        const double j = (double)(first + k);
        const double down = m[0] * (double)i + m[1] * j + m[2], right = m[3] * (double)i + m[4] * j + m[5];
        p->inside[k] = down >= -0.5 && down <= bottom + 0.5 && right >= -0.5 && right <= side + 0.5;
        p->down[k] = p->inside[k] ? warp_clip(down, bottom) : 0.0;
        p->right[k] = p->inside[k] ? warp_clip(right, side) : 0.0;
    }
    for (ptrdiff_t k = 0; k < n; k++) {
        const ptrdiff_t row = (ptrdiff_t)p->down[k], col = (ptrdiff_t)p->right[k];
        const ptrdiff_t below = row + 1 < w->height ? row + 1 : row, next = col + 1 < w->width ? col + 1 : col;
        p->down[k] -= (double)row;
        p->right[k] -= (double)col;
        p->between[k] = p->down[k] != 0.0 || p->right[k] != 0.0;
        p->at[0][k] = row * w->x_row + col * w->x_col;
        p->at[1][k] = row * w->x_row + next * w->x_col;
        p->at[2][k] = below * w->x_row + col * w->x_col;
        p->at[3][k] = below * w->x_row + next * w->x_col;
    }
}

NNP_INLINE float warp_pixel(const int BYTES, const char *x) {
    return BYTES ? (float)*(const uint8_t *)x : *(const float *)x;
}

/* v[k] = one channel of n pixels. Where a place is a pixel's middle, it is that pixel, whatever lies beside it. */
NNP_INLINE void warp_channel(const int BYTES, const char *x, const warp_places *p, ptrdiff_t n, float *v) {
    for (ptrdiff_t k = 0; k < n; k++) {
        v[k] = p->inside[k] ? warp_pixel(BYTES, x + p->at[0][k]) : 0.0f;
        if (!p->inside[k] || !p->between[k]) continue;
        const double r = p->down[k], s = p->right[k];
        v[k] = (float)((1.0 - r) * ((1.0 - s) * v[k] + s * warp_pixel(BYTES, x + p->at[1][k])) +
                       r * ((1.0 - s) * warp_pixel(BYTES, x + p->at[2][k]) + s * warp_pixel(BYTES, x + p->at[3][k])));
    }
}

static void warp_row(const nnp_warp *w, ptrdiff_t i) {
    const ptrdiff_t channels = w->channels;
    const int in_box = i >= w->box[0] && i < w->box[0] + w->box[2];
    for (ptrdiff_t first = 0; first < w->out_width; first += WARP) {
        const ptrdiff_t n = w->out_width - first < WARP ? w->out_width - first : WARP;
        warp_places places;
        float v[NNP_WARP_CHANNELS][WARP];
        warp_find(w, i, first, n, &places);
        for (ptrdiff_t c = 0; c < channels; c++) {
            const char *x = (const char *)w->x + c * w->x_channel;
            if (w->bytes)
                warp_channel(1, x, &places, n, v[c]);
            else
                warp_channel(0, x, &places, n, v[c]);
        }
        for (ptrdiff_t c = 0; c < channels; c++) {
            const float *of = w->colours + c * (channels + 1);
            char *y = (char *)w->y + c * w->y_channel + i * w->y_row + first * w->y_col;
            float sum[WARP];
            for (int k = 0; k < WARP; k++) sum[k] = of[channels];
            for (ptrdiff_t s = 0; s < channels; s++)
                for (ptrdiff_t k = 0; k < n; k++) sum[k] += of[s] * v[s][k];
            for (ptrdiff_t k = 0; k < n; k++) {
                const int hidden = in_box && first + k >= w->box[1] && first + k < w->box[1] + w->box[3];
                *(float *)(y + k * w->y_col) = hidden ? 0.0f : sum[k];
            }
        }
    }
}
