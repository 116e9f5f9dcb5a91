// The hot loops of cross_attention_bfloat16.cpp, for processors that multiply bfloat16.
//
// For cross_attention_bfloat16.cpp alone: everything here is private to it.

#pragma once

#include "cpu/bfloat16_product.h"
#include "cpu/cross_attention_targets.h"

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16")
#endif

namespace glipkit {
namespace {
namespace avx512_bf16 {
static_assert(kPanel == glipkit::kPanel);

namespace floats {  // what is done in float32 is the same as in float32 throughout
#define VECTOR_BYTES 64
#define TILE_ROWS 14
#include "cpu/cross_attention_kernels.h"
#undef VECTOR_BYTES
#undef TILE_ROWS
#undef MATRIX_PRODUCT
#undef EXPONENTIAL
}  // namespace floats

// Masks of the first `count` lanes.
inline __mmask16 lanes_of_16(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

inline __mmask32 lanes_of_32(int64_t count) {
  return static_cast<__mmask32>(count >= 32 ? 0xffffffff : (int64_t{1} << count) - 1);
}

// The halves of a vector of 32 numbers in turn: 0, 16, 1, 17, ...
inline __m512i in_turn(__m512i halves) {
  alignas(64) static constexpr int16_t kOrder[] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                   21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                   11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_maskz_permutexvar_epi16(~__mmask32(0), _mm512_load_si512(kOrder), halves);
}

// `count` numbers, rounded.
void narrow(const float* from, int64_t count, BFloat16* to) {
  for (int64_t j = 0; j < count; j += kLanes) {
    const __mmask16 lanes = lanes_of_16(count - j);
    const __m512 v = _mm512_maskz_loadu_ps(lanes, from + j);
    _mm256_mask_storeu_epi16(to + j, lanes, (__m256i)_mm512_cvtneps_pbh(v));
  }
}

void widen(const BFloat16* from, int64_t count, float* to) {
  for (int64_t j = 0; j < count; j += kLanes) {
    const __mmask16 lanes = lanes_of_16(count - j);
    const __m512i v = _mm512_maskz_cvtepu16_epi32(lanes, _mm256_maskz_loadu_epi16(lanes, from + j));
    _mm512_mask_storeu_ps(to + j, lanes,
                          _mm512_castsi512_ps(_mm512_maskz_slli_epi32(lanes, v, 16)));
  }
}

// Panels of `count` channels of rows, two rows together, as a product wants its right side:
// (panels, rows / 2, kPanel, 2), of which a panel begins `panel_stride` after the one before. Zeros
// behind the last channel and the last row.
void pack_rows(const BFloat16* from, int64_t stride, int64_t rows, int64_t count, BFloat16* to,
               int64_t panel_stride) {
  for (int64_t c = 0; c < count; c += kPanel, to += panel_stride) {
    const __mmask32 lanes = lanes_of_32(count - c);
    for (int64_t i = 0; i < rows; i += 2) {
      const BFloat16* row = from + i * stride + c;
      const __mmask32 next_lanes = i + 1 < rows ? lanes : 0;
      const __m512i first = _mm512_maskz_loadu_epi16(lanes, row);
      const __m512i second = _mm512_maskz_loadu_epi16(next_lanes, row + stride);
      const __m512i left = _mm512_maskz_shuffle_i64x2(0xff, first, second, 0x44);
      const __m512i right = _mm512_maskz_shuffle_i64x2(0xff, first, second, 0xee);
      _mm512_storeu_si512(to + i * kPanel, in_turn(left));
      _mm512_storeu_si512(to + i * kPanel + kPanel, in_turn(right));
    }
  }
}

// exp(score - reference of the column), rounded, (rows / 2, stride, 2) with zeros for a missing
// row; adds their sums over the rows, before they are rounded, to `total`.
void column_weights(const float* scores, int64_t stride, int64_t rows, int64_t columns,
                    const float* reference, float* total, BFloat16* weights) {
  for (int64_t i = 0; i < rows; i += 2) {
    const float* row = scores + i * stride;
    BFloat16* pairs = weights + i * stride;
    for (int64_t j = 0; j < columns; j += kLanes) {
      const auto less = floats::at(reference + j);
      const auto first = floats::exponential<float>(floats::at(row + j) - less);
      auto second = first - first;
      if (i + 1 < rows) second = floats::exponential<float>(floats::at(row + stride + j) - less);
      floats::at(total + j) += first + second;
      _mm512_storeu_si512(pairs + 2 * j,
                          in_turn((__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first)));
    }
  }
}

// The softmax over the text, rounded, rows `stride` apart, and one zero behind a row;
// `head_scores` is memory for one head.
void softmax_rows(const float* scores, int64_t stride, int64_t rows, int64_t heads, int64_t tokens,
                  const float* ceiling, float limit, float* head_scores, BFloat16* weights) {
  for (int64_t i = 0; i < rows; ++i) {
    BFloat16* row = weights + i * stride;
    for (int64_t h = 0; h < heads; ++h) {
      const float factor = floats::head_weights(scores + i * stride + h * tokens, tokens, ceiling,
                                                limit, head_scores);
      for (int64_t t = 0; t < tokens; t += 2 * kLanes) {
        const __m512 low = (__m512)(floats::at(head_scores + t) * factor);
        const __m512 high = (__m512)(floats::at(head_scores + t + kLanes) * factor);
        _mm512_mask_storeu_epi16(row + h * tokens + t, lanes_of_32(tokens - t),
                                 (__m512i)_mm512_cvtne2ps_pbh(high, low));
      }
    }
    __builtin_memset(static_cast<void*>(row + heads * tokens), 0, sizeof(BFloat16));
  }
}

}  // namespace avx512_bf16
}  // namespace
}  // namespace glipkit

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // __x86_64__
