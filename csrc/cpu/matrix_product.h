// Products of matrices that lie in the cache: the register tiles that the operators share.
//
// A part of the kernels of an operator: included by them inside the namespace of an instruction set
// (targets.h), once for each: hence the guard that targets.h lifts. Needs kPanel, VECTOR_BYTES and
// TILE_ROWS.

#ifndef MATRIX_PRODUCT
#define MATRIX_PRODUCT

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
// Rows of c, and of a, lie a stride apart; TURNED: the columns of a do.
template <typename T, int ROWS, bool TURNED>
inline void multiply_tile(const T* a, int64_t a_stride, int64_t depth, const T* b, T* c,
                          int64_t c_stride) {
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  V sum[ROWS][2];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    sum[r][0] = at(c + r * c_stride);
    sum[r][1] = at(c + r * c_stride + L);
  }
  for (int64_t k = 0; k < depth; ++k) {
    const V left = at(b + k * kPanel), right = at(b + k * kPanel + L);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const T factor = TURNED ? a[k * a_stride + r] : a[r * a_stride + k];
      sum[r][0] += factor * left;
      sum[r][1] += factor * right;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    at(c + r * c_stride) = sum[r][0];
    at(c + r * c_stride + L) = sum[r][1];
  }
}

// c (rows x kPanel) += a (rows x depth) b (depth x kPanel), rows of c a stride apart. TURNED: a is
// stored as (depth x rows).
template <typename T, bool TURNED>
void multiply_into(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b, T* c,
                   int64_t c_stride) {
  const int64_t step = TURNED ? 1 : a_stride;  // from one row of a to the next
  for (int64_t j = 0; j < kPanel; j += 2 * Vector<T>::length) {
    int64_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS) {
      multiply_tile<T, TILE_ROWS, TURNED>(a + r * step, a_stride, depth, b + j,
                                          c + r * c_stride + j, c_stride);
    }
    for (; r + 4 <= rows; r += 4) {
      multiply_tile<T, 4, TURNED>(a + r * step, a_stride, depth, b + j, c + r * c_stride + j,
                                  c_stride);
    }
    for (; r < rows; ++r) {
      multiply_tile<T, 1, TURNED>(a + r * step, a_stride, depth, b + j, c + r * c_stride + j,
                                  c_stride);
    }
  }
}

// The same with the rows of c next to each other.
template <typename T>
void multiply(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b, T* c) {
  multiply_into<T, false>(a, a_stride, rows, depth, b, c, kPanel);
}

#endif
