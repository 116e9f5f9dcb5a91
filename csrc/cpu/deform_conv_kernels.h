// The hot loops of deform_conv.cpp, in GCC's and Clang's vector types.
//
// deform_conv_targets.h includes this once for each instruction set, in a namespace of its own,
// with VECTOR_BYTES (the width of a register) and TILE_ROWS (rows whose sums fit into the
// registers) defined. Nothing here may call an inline function from elsewhere: its one copy in the
// program could then be the one for AVX-512.

template <typename T>
struct Vector {
  // May lie anywhere in memory, not only at multiples of its size.
  typedef T type __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(T)), may_alias));
  static constexpr int64_t length = VECTOR_BYTES / static_cast<int64_t>(sizeof(T));
};

template <typename T>
inline typename Vector<T>::type& at(T* pointer) {
  return *reinterpret_cast<typename Vector<T>::type*>(pointer);
}

template <typename T>
inline const typename Vector<T>::type& at(const T* pointer) {
  return *reinterpret_cast<const typename Vector<T>::type*>(pointer);
}

// c (ROWS x 2 vectors) += a (ROWS x depth) b (depth x 2 vectors); the sums stay in registers.
template <typename T, int ROWS>
inline void multiply_tile(const T* a, int64_t a_stride, int64_t depth, const T* b, T* c) {
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
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const T factor = a[r * a_stride + k];
      sum[r][0] += factor * left;
      sum[r][1] += factor * right;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    at(c + r * kPanel) = sum[r][0];
    at(c + r * kPanel + L) = sum[r][1];
  }
}

// c (rows x kPanel) += a (rows x depth) b (depth x kPanel).
template <typename T>
void multiply(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b, T* c) {
  for (int64_t j = 0; j < kPanel; j += 2 * Vector<T>::length) {
    int64_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS) {
      multiply_tile<T, TILE_ROWS>(a + r * a_stride, a_stride, depth, b + j, c + r * kPanel + j);
    }
    for (; r + 4 <= rows; r += 4) {
      multiply_tile<T, 4>(a + r * a_stride, a_stride, depth, b + j, c + r * kPanel + j);
    }
    for (; r < rows; ++r) {
      multiply_tile<T, 1>(a + r * a_stride, a_stride, depth, b + j, c + r * kPanel + j);
    }
  }
}

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
