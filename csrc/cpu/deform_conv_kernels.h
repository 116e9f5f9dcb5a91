// The hot loops of deform_conv.cpp, in GCC's and Clang's vector types.
//
// targets.h includes this once for each instruction set.

#include "cpu/matrix_product.h"

// One row of `columns` for each sample: its four corners weighted, times its strength.
template <typename T>
void gather(const T* pixels, int64_t stride, const Bilinear<T>* samples, const T* strength,
            int64_t count, int64_t channels, T* columns, int64_t column_stride) {
  constexpr int64_t L = Vector<T>::length;
  for (int64_t i = 0; i < count; ++i) {
    const Bilinear<T>& sample = samples[i];
    const T* p0 = pixels + sample.corner[0] * stride;
    const T* p1 = pixels + sample.corner[1] * stride;
    const T* p2 = pixels + sample.corner[2] * stride;
    const T* p3 = pixels + sample.corner[3] * stride;
    const T w0 = sample.weight[0] * strength[i], w1 = sample.weight[1] * strength[i];
    const T w2 = sample.weight[2] * strength[i], w3 = sample.weight[3] * strength[i];
    T* column = columns + i * column_stride;
    int64_t c = 0;
    for (; c + L <= channels; c += L) {
      at(column + c) = w0 * at(p0 + c) + w1 * at(p1 + c) + w2 * at(p2 + c) + w3 * at(p3 + c);
    }
    for (; c < channels; ++c) {
      column[c] = w0 * p0[c] + w1 * p1[c] + w2 * p2[c] + w3 * p3[c];
    }
  }
}

// Backward through `gather`, at most kPanel channels: adds to the corners' gradients, and leaves
// the columns (for the gradient of the weight) and, for each sample, the products of the column's
// gradient with its four corners (of which the gradients of offset and mask are made).
template <typename T>
void gather_backward(const T* pixels, T* grad_pixels, int64_t stride, const Bilinear<T>* samples,
                     const T* strength, int64_t count, int64_t channels, const T* grad_columns,
                     T* columns, T* products, int64_t product_stride) {
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  for (int64_t i = 0; i < count; ++i) {
    const Bilinear<T>& sample = samples[i];
    const T* grad = grad_columns + i * kPanel;
    T* column = columns + i * kPanel;
    const T* p[4];
    T* q[4];
    T w[4], total[4];
    V sum[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      p[k] = pixels + sample.corner[k] * stride;
      q[k] = grad_pixels + sample.corner[k] * stride;
      w[k] = sample.weight[k] * strength[i];
      sum[k] = V{};
      total[k] = 0;
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
    for (; c < channels; ++c) {
      T value = 0;
      for (int k = 0; k < 4; ++k) {
        value += w[k] * p[k][c];
        total[k] += grad[c] * p[k][c];
        q[k][c] += w[k] * grad[c];
      }
      column[c] = value;
    }
    for (int k = 0; k < 4; ++k) {
      for (int64_t j = 0; j < L; ++j) total[k] += sum[k][j];
      products[i * product_stride + k] = total[k];
    }
  }
}

template <typename T>
constexpr Kernels<T> kernels() {
  return {multiply<T>, gather<T>, gather_backward<T>};
}
