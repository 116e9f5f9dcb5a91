// The hot loops of deform_conv.cpp, in GCC's and Clang's vector types.
//
// targets.h includes this once for each instruction set.

#include "cpu/matrix_product.h"

// One row of `columns` for each sample: its four corners weighted, times its strength.
template <typename T>
void gather(const T* pixels, int64_t stride, const T* nothing, const Bilinear<T>* samples,
            const T* strength, int64_t count, int64_t channels, T* columns, int64_t column_stride) {
  constexpr int64_t L = Vector<T>::length;
  for (int64_t i = 0; i < count; ++i) {
    const Bilinear<T>& sample = samples[i];
    const T* p[4];
    T w[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      p[k] = sample.corner[k] < 0 ? nothing : pixels + sample.corner[k] * stride;
      w[k] = sample.weight[k] * strength[i];
    }
    T* column = columns + i * column_stride;
    int64_t c = 0;
    for (; c + L <= channels; c += L) {
      at(column + c) =
          w[0] * at(p[0] + c) + w[1] * at(p[1] + c) + w[2] * at(p[2] + c) + w[3] * at(p[3] + c);
    }
    for (; c < channels; ++c) {
      column[c] = w[0] * p[0][c] + w[1] * p[1][c] + w[2] * p[2][c] + w[3] * p[3][c];
    }
  }
}

// Sums of a tile (count x kPanel), and the bias if there is one, to rows of outputs.
template <typename T>
void store(const T* sums, const T* bias, int64_t count, int64_t outputs, T* rows,
           int64_t row_stride) {
  constexpr int64_t L = Vector<T>::length;
  T add[kPanel] = {};
  for (int64_t j = 0; bias && j < outputs; ++j) add[j] = bias[j];
  for (int64_t i = 0; i < count; ++i) {
    const T* sum = sums + i * kPanel;
    T* row = rows + i * row_stride;
    int64_t j = 0;
    for (; j + L <= outputs; j += L) at(row + j) = at(sum + j) + at(add + j);
    for (; j < outputs; ++j) row[j] = sum[j] + add[j];
  }
}

// c (ROWS x 2 vectors) += transposed a (depth x ROWS) b (depth x 2 vectors).
template <typename T, int ROWS>
inline void multiply_transposed_tile(const T* a, int64_t a_stride, int64_t depth, const T* b,
                                     T* c) {
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  V sum[ROWS][2];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    sum[r][0] = at(c + r * kPanel);
    sum[r][1] = at(c + r * kPanel + L);
  }
  for (int64_t k = 0; k < depth; ++k) {
    const V left = at(b + k * kPanel), right = at(b + k * kPanel + L);
    const T* factors = a + k * a_stride;
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      sum[r][0] += factors[r] * left;
      sum[r][1] += factors[r] * right;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    at(c + r * kPanel) = sum[r][0];
    at(c + r * kPanel + L) = sum[r][1];
  }
}

// c (rows x kPanel) += transposed a (depth x rows) b (depth x kPanel).
template <typename T>
void multiply_transposed(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b,
                         T* c) {
  for (int64_t j = 0; j < kPanel; j += 2 * Vector<T>::length) {
    int64_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS) {
      multiply_transposed_tile<T, TILE_ROWS>(a + r, a_stride, depth, b + j, c + r * kPanel + j);
    }
    for (; r + 4 <= rows; r += 4) {
      multiply_transposed_tile<T, 4>(a + r, a_stride, depth, b + j, c + r * kPanel + j);
    }
    for (; r < rows; ++r) {
      multiply_transposed_tile<T, 1>(a + r, a_stride, depth, b + j, c + r * kPanel + j);
    }
  }
}

template <typename T, int N>
struct Lanes {
  typedef T type __attribute__((vector_size(N * sizeof(T)), aligned(alignof(T)), may_alias));
};

// The sums of the lanes of four vectors: four numbers.
template <typename T>
inline void sum_lanes(const typename Vector<T>::type* four, T* sums) {
  constexpr int64_t L = Vector<T>::length;
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
  if constexpr (L >= 4) {
    using Four = typename Lanes<T, 4>::type;
    Four part[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      if constexpr (L == 16) {
        const typename Lanes<T, 8>::type half =
            __builtin_shufflevector(four[k], four[k], 0, 1, 2, 3, 4, 5, 6, 7) +
            __builtin_shufflevector(four[k], four[k], 8, 9, 10, 11, 12, 13, 14, 15);
        part[k] = __builtin_shufflevector(half, half, 0, 1, 2, 3) +
                  __builtin_shufflevector(half, half, 4, 5, 6, 7);
      } else if constexpr (L == 8) {
        part[k] = __builtin_shufflevector(four[k], four[k], 0, 1, 2, 3) +
                  __builtin_shufflevector(four[k], four[k], 4, 5, 6, 7);
      } else {
        part[k] = four[k];
      }
    }
    const Four first = __builtin_shufflevector(part[0], part[1], 0, 4, 2, 6) +
                       __builtin_shufflevector(part[0], part[1], 1, 5, 3, 7);
    const Four second = __builtin_shufflevector(part[2], part[3], 0, 4, 2, 6) +
                        __builtin_shufflevector(part[2], part[3], 1, 5, 3, 7);
    *reinterpret_cast<Four*>(sums) = __builtin_shufflevector(first, second, 0, 1, 4, 5) +
                                     __builtin_shufflevector(first, second, 2, 3, 6, 7);
    return;
  }
#endif
  for (int k = 0; k < 4; ++k) {
    sums[k] = 0;
    for (int64_t j = 0; j < L; ++j) sums[k] += four[k][j];
  }
}

// Backward through `gather`, at most kPanel channels: adds to the corners' gradients (those outside
// the image go to `grad_nothing`), and leaves the columns (for the gradient of the weight) and, for
// each sample, the products of the column's gradient with its four corners (of which the gradients
// of offset and mask are made).
template <typename T>
void gather_backward(const T* pixels, int64_t stride, const T* nothing, T* grad_pixels,
                     int64_t grad_stride, T* grad_nothing, const Bilinear<T>* samples,
                     const T* strength, int64_t count, int64_t channels, const T* grad_columns,
                     T* columns, T* products) {
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  for (int64_t i = 0; i < count; ++i) {
    const Bilinear<T>& sample = samples[i];
    const T* grad = grad_columns + i * kPanel;
    T* column = columns + i * kPanel;
    T* product = products + 4 * i;
    const T* p[4];
    T* q[4];
    T w[4];
    V sum[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const bool outside = sample.corner[k] < 0;
      p[k] = outside ? nothing : pixels + sample.corner[k] * stride;
      q[k] = outside ? grad_nothing : grad_pixels + sample.corner[k] * grad_stride;
      w[k] = sample.weight[k] * strength[i];
      sum[k] = V{};
    }
    int64_t c = 0;
    for (; c + L <= channels; c += L) {
      const V g = at(grad + c);
      V value = V{};
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const V corner = at(p[k] + c);
        value += w[k] * corner;
        sum[k] += g * corner;
        at(q[k] + c) += w[k] * g;
      }
      at(column + c) = value;
    }
    sum_lanes<T>(sum, product);
    for (; c < channels; ++c) {
      T value = 0;
      for (int k = 0; k < 4; ++k) {
        value += w[k] * p[k][c];
        product[k] += grad[c] * p[k][c];
        q[k][c] += w[k] * grad[c];
      }
      column[c] = value;
    }
  }
}

template <typename T>
constexpr Kernels<T> kernels() {
  return {{multiply<T>, gather<T>, store<T>}, multiply_transposed<T>, gather_backward<T>};
}
