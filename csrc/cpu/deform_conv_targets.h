// The hot loops of deform_conv.cpp for each instruction set, and the choice among them.
//
// The library is built for any processor of its family; only these loops are built for better ones
// too. For deform_conv.cpp alone: everything here is private to it.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include "bilinear.h"

namespace glipkit {
namespace {

// Columns of b and c in a matrix product: two AVX-512 registers of floats. Wider is not faster, and
// the work of the backward pass is shared out by panels of input channels.
constexpr int64_t kPanel = 32;

template <typename T>
struct Kernels {
  void (*multiply)(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b, T* c);
  void (*gather)(const T* pixels, int64_t stride, const Bilinear<T>* samples, const T* strength,
                 int64_t count, int64_t channels, T* columns, int64_t column_stride);
  void (*gather_backward)(const T* pixels, T* grad_pixels, int64_t stride,
                          const Bilinear<T>* samples, const T* strength, int64_t count,
                          int64_t channels, const T* grad_columns, T* columns, T* products,
                          int64_t product_stride);
};

namespace baseline {  // SSE2 or NEON: 16 registers of 16 bytes at the least
#define VECTOR_BYTES 16
#define TILE_ROWS 4
#include "deform_conv_kernels.h"
#undef VECTOR_BYTES
#undef TILE_ROWS
}  // namespace baseline

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {  // 16 registers of 32 bytes
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#include "deform_conv_kernels.h"
#undef VECTOR_BYTES
#undef TILE_ROWS
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif
namespace avx512 {  // 32 registers of 64 bytes
#define VECTOR_BYTES 64
#define TILE_ROWS 14
#include "deform_conv_kernels.h"
#undef VECTOR_BYTES
#undef TILE_ROWS
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // __x86_64__

// The best that the processor has; ATEN_CPU_CAPABILITY (default, avx2, avx512) allows less, as it
// does for PyTorch's own kernels.
template <typename T>
Kernels<T> best_kernels() {
#if defined(__x86_64__)
  const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string allowed = variable ? variable : "";
  const bool allow_avx2 = allowed != "default", allow_avx512 = allow_avx2 && allowed != "avx2";
  if (allow_avx512 && __builtin_cpu_supports("avx512f")) return avx512::kernels<T>();
  if (allow_avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return avx2::kernels<T>();
  }
#endif
  return baseline::kernels<T>();
}

template <typename T>
const Kernels<T>& kernels() {
  static const Kernels<T> best = best_kernels<T>();
  return best;
}

}  // namespace
}  // namespace glipkit
