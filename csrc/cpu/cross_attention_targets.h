// The hot loops of cross-attention for each instruction set, and the choice among them.
//
// For cross_attention*.cpp alone: everything here is private to them.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

namespace glipkit {
namespace {

// Columns of b and c in a matrix product: two AVX-512 registers of floats.
constexpr int64_t kPanel = 32;

// A weight is dropped when its 32 random bits are below the threshold, else scaled.
template <typename T>
struct Dropout {
  uint32_t threshold;  // 0: nothing is dropped, and scale is 1
  T scale;
};

// Both dropouts of a tile: the keys of its rows, and memory for the factors of one row, which are
// 1 already where nothing is dropped.
template <typename T>
struct DropoutRows {
  Dropout<T> image, text;
  const uint32_t *image_keys, *text_keys;
  T *image_factors, *text_factors;
  int64_t first;  // number of the first column of the tile among those of all heads
};

// What the softmax over the image knows of its columns.
template <typename T>
struct ColumnSums {
  const T* reference;  // a weight is exp(score - reference) * factor
  const T* factor;
  const T* grad_kept;  // gradient of the sum of the weights that are kept
  const T* mean;       // of the gradients of the weights, as the weights have it
};

template <typename T>
struct Kernels {
  void (*multiply)(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b, T* c,
                   int64_t c_stride);
  void (*multiply_turned)(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b,
                          T* c, int64_t c_stride);
  void (*limit_scores)(T* scores, int64_t stride, int64_t rows, int64_t columns, T limit,
                       T* largest);
  void (*column_weights)(const T* scores, T* weights, int64_t stride, int64_t rows, int64_t columns,
                         const T* reference, T* total);
  void (*softmax_rows)(T* scores, int64_t stride, int64_t rows, int64_t heads, int64_t tokens,
                       const T* ceiling, T limit, T* weights);
  void (*drop)(T* weights, int64_t stride, int64_t rows, int64_t first, int64_t columns,
               const uint32_t* keys, Dropout<T> dropout, T* kept, T* factors);
  void (*score_gradients)(T* scores, T* grad_reads, T* grad_context, int64_t stride, int64_t rows,
                          int64_t heads, int64_t tokens, const T* ceiling, T limit,
                          const ColumnSums<T>& sums, const DropoutRows<T>& dropout, T* grad_bias,
                          T* weights);
};

#define TARGET_KERNELS "cpu/cross_attention_kernels.h"
#include "cpu/targets.h"

}  // namespace
}  // namespace glipkit
