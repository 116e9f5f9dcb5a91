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

#define TARGET_KERNELS "cpu/deform_conv_kernels.h"
#include "cpu/targets.h"

}  // namespace
}  // namespace glipkit
