// The forward loops of deform_conv.cpp for bfloat16, where the processor multiplies it: twice the
// speed of float32. Sampling and sums are float32. Other processors compute in float32 throughout.
//
// For deform_conv_targets.h alone.

#pragma once

#include "cpu/bfloat16_product.h"

#if defined(__x86_64__)

#include <immintrin.h>

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

inline __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(count >= kLanes ? 0xffff : (1 << count) - 1);
}

inline __m512 load(const BFloat16* from, __mmask16 lanes) {
  const __m256i bits = _mm256_maskz_loadu_epi16(lanes, from);
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(lanes, bits);
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(lanes, wide, 16));
}

inline void save(BFloat16* to, __mmask16 lanes, __m512 values) {
  _mm256_mask_storeu_epi16(to, lanes, (__m256i)_mm512_cvtneps_pbh(values));
}

// c (rows x kPanel) += a (rows x depth, even) b (depth / 2 x kPanel x 2).
void multiply(const BFloat16* a, int64_t a_stride, int64_t rows, int64_t depth, const BFloat16* b,
              float* c) {
  multiply_into<false>(a, a_stride, rows, depth, b, c, kPanel);
}

void gather(const BFloat16* pixels, int64_t stride, const BFloat16* nothing,
            const Bilinear<float>* samples, const float* strength, int64_t count, int64_t channels,
            BFloat16* columns, int64_t column_stride) {
  alignas(64) int16_t places[2 * kLanes];  // of evens and odds, side by side, in channels
  for (int16_t j = 0; j < 2 * kLanes; ++j) places[j] = static_cast<int16_t>(j / 2 + j % 2 * kLanes);
  const __m512i order = _mm512_load_si512(places);
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000));
  for (int64_t i = 0; i < count; ++i) {
    const Bilinear<float>& sample = samples[i];
    const BFloat16* corner[4];
    __m512 weight[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      corner[k] = sample.corner[k] < 0 ? nothing : pixels + sample.corner[k] * stride;
      weight[k] = _mm512_set1_ps(sample.weight[k] * strength[i]);
    }
    BFloat16* column = columns + i * column_stride;
    int64_t c = 0;
    for (; c + 2 * kLanes <= channels; c += 2 * kLanes) {
      // Every other channel: the upper half of a word is a float but for its last bits.
      __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const __m512i words = _mm512_loadu_si512(corner[k] + c);
        const __m512i low = _mm512_maskz_slli_epi32(0xffff, words, 16);
        even = _mm512_fmadd_ps(weight[k], _mm512_castsi512_ps(low), even);
        odd = _mm512_fmadd_ps(weight[k], _mm512_castsi512_ps(_mm512_and_epi32(words, upper)), odd);
      }
      const __m512i pairs = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
      _mm512_storeu_si512(column + c, _mm512_maskz_permutexvar_epi16(~__mmask32(0), order, pairs));
    }
    for (; c < channels; c += kLanes) {
      const __mmask16 lanes = first_lanes(channels - c);
      __m512 value = _mm512_mul_ps(weight[0], load(corner[0] + c, lanes));
#pragma GCC unroll 3
      for (int k = 1; k < 4; ++k) {
        value = _mm512_fmadd_ps(weight[k], load(corner[k] + c, lanes), value);
      }
      save(column + c, lanes, value);
    }
  }
}

void store(const float* sums, const float* bias, int64_t count, int64_t outputs, BFloat16* rows,
           int64_t row_stride) {
  for (int64_t j = 0; j < outputs; j += kLanes) {
    const __mmask16 lanes = first_lanes(outputs - j);
    const __m512 add = bias ? _mm512_maskz_loadu_ps(lanes, bias + j) : _mm512_setzero_ps();
    for (int64_t i = 0; i < count; ++i) {
      const __m512 sum = _mm512_loadu_ps(sums + i * kPanel + j);
      save(rows + i * row_stride + j, lanes, _mm512_add_ps(sum, add));
    }
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

namespace glipkit {
namespace {

// None where the processor has no products of bfloat16, or ATEN_CPU_CAPABILITY allows less.
const ForwardKernels<BFloat16>* bfloat16_kernels() {
#if defined(__x86_64__)
  static const ForwardKernels<BFloat16> native = {avx512_bf16::multiply, avx512_bf16::gather,
                                                  avx512_bf16::store};
  if (has_bfloat16_products()) return &native;
#endif
  return nullptr;
}

}  // namespace
}  // namespace glipkit
