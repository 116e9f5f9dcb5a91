// The hot loops of deform_conv.cpp for each instruction set, and the choice among them.
//
// The library is built for any processor of its family; only these loops are built for better ones
// too. For deform_conv.cpp alone: everything here is private to it.

#pragma once

#include <torch/headeronly/util/BFloat16.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <type_traits>

#include "bilinear.h"

namespace glipkit {
namespace {

using torch::headeronly::BFloat16;

// Columns of b and c in a matrix product: two AVX-512 registers of floats. Wider is not faster, and
// the work of the backward pass is shared out by panels of input channels.
constexpr int64_t kPanel = 32;

// What elements of type E are weighted and summed in.
template <typename E>
using Sum = std::conditional_t<std::is_same_v<E, double>, double, float>;

// Channels that lie together in a panel of weights: as many as one instruction multiplies.
template <typename E>
constexpr int64_t kTogether = std::is_same_v<E, BFloat16> ? 2 : 1;

// `nothing` is a row of zeros: what corners outside the image read.
template <typename E>
struct ForwardKernels {
  using T = Sum<E>;
  void (*multiply)(const E* a, int64_t a_stride, int64_t rows, int64_t depth, const E* b, T* c);
  void (*gather)(const E* pixels, int64_t stride, const E* nothing, const Bilinear<T>* samples,
                 const T* strength, int64_t count, int64_t channels, E* columns,
                 int64_t column_stride);
  void (*store)(const T* sums, const T* bias, int64_t count, int64_t outputs, E* rows,
                int64_t row_stride);
};

template <typename T>
struct Kernels {
  ForwardKernels<T> forward;
  void (*multiply_transposed)(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b,
                              T* c);
  void (*gather_backward)(const T* pixels, int64_t stride, const T* nothing, T* grad_pixels,
                          int64_t grad_stride, T* grad_nothing, const Bilinear<T>* samples,
                          const T* strength, int64_t count, int64_t channels, const T* grad_columns,
                          T* columns, T* products);
};

#define TARGET_KERNELS "cpu/deform_conv_kernels.h"
#include "cpu/targets.h"

}  // namespace
}  // namespace glipkit

#include "cpu/deform_conv_bfloat16.h"

namespace glipkit {
namespace {

template <typename E>
const ForwardKernels<E>& forward_kernels() {
  if constexpr (std::is_same_v<E, BFloat16>) {
    return *bfloat16_kernels();
  } else {
    return kernels<E>().forward;
  }
}

}  // namespace
}  // namespace glipkit
