// The attention of one head in one window, forward and backward, all in the first-level caches.
//
// A part of window_attention.cpp, see targets.h. Matrices lie in panels: (panels, rows, kPanel),
// zeros behind the last column.

#include "cpu/exponential.h"
#include "cpu/matrix_product.h"

template <typename E>
inline Sum<E> widened(E value) {
  if constexpr (sizeof(E) == 2) {  // bfloat16: the upper half of a float32
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    return __builtin_bit_cast(float, bits);
  } else {
    return value;
  }
}

template <typename E>
inline E narrowed(Sum<E> value) {
  if constexpr (sizeof(E) == 2) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, value);
    if (value != value) return static_cast<E>(bits >> 16 | 0x40);
    return static_cast<E>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // to the nearest, ties even
  } else {
    return value;
  }
}

// Numbers [first, first + width) of every row, times a factor, into panels.
template <typename E>
inline void gather(const E* const* rows, int64_t count, int64_t first, int64_t width, Sum<E> factor,
                   Sum<E>* panels) {
  for (int64_t c0 = 0; c0 < width; c0 += kPanel, panels += count * kPanel) {
    const int64_t columns = width - c0 < kPanel ? width - c0 : kPanel;
    for (int64_t i = 0; i < count; ++i) {
      const E* row = rows[i] + first + c0;
      Sum<E>* to = panels + i * kPanel;
      if (columns == kPanel) {
        for (int64_t c = 0; c < kPanel; ++c) to[c] = widened(row[c]) * factor;
      } else {
        for (int64_t c = 0; c < columns; ++c) to[c] = widened(row[c]) * factor;
      }
    }
  }
}

// Panels (count x width) to panels (width x count): a block of two registers' length at a time.
template <typename T>
inline void turn(const T* panels, int64_t count, int64_t width, T* turned) {
  for (int64_t c0 = 0; c0 < width; c0 += kPanel, panels += count * kPanel) {
    const int64_t columns = width - c0 < kPanel ? width - c0 : kPanel;
    for (int64_t i0 = 0; i0 < count; i0 += kPanel) {
      const int64_t rows = count - i0 < kPanel ? count - i0 : kPanel;
      T* to = turned + (i0 / kPanel * width + c0) * kPanel;
      for (int64_t c = 0; c < columns; ++c) {
        for (int64_t i = 0; i < rows; ++i) to[c * kPanel + i] = panels[(i0 + i) * kPanel + c];
      }
    }
  }
}

// c (rows x kPanel) += a (rows x depth) b (depth x kPanel). Like multiply_into, with tiles of
// seven rows where two fill the registers: 49 positions are seven of them.
template <typename T, bool TURNED>
inline void multiply_rows(const T* a, int64_t a_stride, int64_t rows, int64_t depth, const T* b,
                          T* c, int64_t c_stride) {
  const int64_t step = TURNED ? 1 : a_stride;
  for (int64_t j = 0; j < kPanel; j += 2 * Vector<T>::length) {
    int64_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS) {
      multiply_tile<T, TILE_ROWS, TURNED>(a + r * step, a_stride, depth, b + j,
                                          c + r * c_stride + j, c_stride);
    }
    for (; TILE_ROWS == 14 && r + 7 <= rows; r += 7) {
      multiply_tile<T, 7, TURNED>(a + r * step, a_stride, depth, b + j, c + r * c_stride + j,
                                  c_stride);
    }
    for (; r < rows; ++r) {
      multiply_tile<T, 1, TURNED>(a + r * step, a_stride, depth, b + j, c + r * c_stride + j,
                                  c_stride);
    }
  }
}

// scores (count x padded) += a b, for a in panels (count x width), b turned (width x count).
template <typename T>
inline void multiply_turned(const T* a, const T* b, int64_t count, int64_t width, int64_t padded,
                            T* scores) {
  for (int64_t c0 = 0; c0 < width; c0 += kPanel, a += count * kPanel) {
    const int64_t depth = width - c0 < kPanel ? width - c0 : kPanel;
    for (int64_t j = 0; j < padded; j += kPanel) {
      multiply_rows<T, false>(a, kPanel, count, depth, b + j * width + c0 * kPanel, scores + j,
                              padded);
    }
  }
}

// sums = weights b, both b and sums in panels (count x width); TURNED: the weights transposed.
template <typename T, bool TURNED>
inline void multiply_weights(const T* weights, const T* b, int64_t count, int64_t width,
                             int64_t padded, T* sums) {
  for (int64_t c = 0; c < width; c += kPanel, b += count * kPanel, sums += count * kPanel) {
    for (int64_t i = 0; i < count * kPanel; ++i) sums[i] = 0;
    multiply_rows<T, TURNED>(weights, padded, count, count, b, sums, kPanel);
  }
}

// Each lane beside the one whose number differs by STEP.
template <typename T, int STEP>
inline typename Vector<T>::type crossed(typename Vector<T>::type v) {
  constexpr int L = static_cast<int>(Vector<T>::length);
#if defined(__clang__)
  typename Vector<T>::type result = v;
  for (int i = 0; i < L; ++i) result[i] = v[i ^ STEP];
  return result;
#else
  typedef typename Exponential<T>::Integer Integers __attribute__((vector_size(VECTOR_BYTES)));
  Integers lanes = {};
#pragma GCC unroll 16
  for (int i = 0; i < L; ++i) lanes[i] = i ^ STEP;
  return __builtin_shuffle(v, lanes);
#endif
}

template <typename T>
inline T largest(typename Vector<T>::type v) {
  using V = typename Vector<T>::type;
  constexpr int L = static_cast<int>(Vector<T>::length);
  V other = crossed<T, L / 2>(v);
  v = v > other ? v : other;
  if constexpr (L >= 4) other = crossed<T, L / 4>(v), v = v > other ? v : other;
  if constexpr (L >= 8) other = crossed<T, L / 8>(v), v = v > other ? v : other;
  if constexpr (L >= 16) other = crossed<T, L / 16>(v), v = v > other ? v : other;
  return v[0];
}

template <typename T>
inline T total(typename Vector<T>::type v) {
  constexpr int L = static_cast<int>(Vector<T>::length);
  v += crossed<T, L / 2>(v);
  if constexpr (L >= 4) v += crossed<T, L / 4>(v);
  if constexpr (L >= 8) v += crossed<T, L / 8>(v);
  if constexpr (L >= 16) v += crossed<T, L / 16>(v);
  return v[0];
}

// Every row of scores (count x padded) becomes exp(score - largest); their sums, one a row.
template <typename T>
inline void exponentials(T* scores, int64_t count, int64_t padded, T* sums) {
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  for (int64_t i = 0; i < count; ++i, scores += padded) {
    V most = at(scores);
    for (int64_t j = L; j < padded; j += L) most = most > at(scores + j) ? most : at(scores + j);
    const T level = largest<T>(most);
    V sum = V{};
    for (int64_t j = 0; j < padded; j += L) {
      const V value = exponential<T>(at(scores + j) - level);
      at(scores + j) = value;
      sum += value;
    }
    sums[i] = total<T>(sum);
  }
}

// The bias of every pair of positions, and what keeps regions apart.
template <typename E>
inline void start_scores(const Head<E>& head, Sum<E>* scores) {
  using T = Sum<E>;
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  const T* bias = head.bias;
  for (int64_t i = 0; i < head.count; ++i, bias += head.padded, scores += head.padded) {
    for (int64_t j = 0; j < head.padded; j += L) {
      V score = at(bias + j);
      if (head.regions) {
        const V none = V{}, apart = none + head.far_apart;
        score += at(head.regions + j) != head.regions[i] + none ? apart : none;
      }
      at(scores + j) = score;
    }
  }
}

// Numbers of a matrix (count x width) in panels.
inline int64_t matrix(int64_t count, int64_t width) {
  return (width + kPanel - 1) / kPanel * kPanel * count;
}

// What every position reads. `outputs`: a row of `channels` for each position, or none.
template <typename E>
void attend(const Head<E>& head, E* const* outputs, Sum<E>* memory) {
  using T = Sum<E>;
  const int64_t count = head.count, width = head.width, padded = head.padded;
  const int64_t size = matrix(count, width);
  T *query = memory, *key = query + size, *value = key + size, *read = value + size;
  T *turned = read + size, *scores = turned + width * padded, *sums = scores + count * padded;

  gather(head.rows, count, head.first, width, head.scale, query);
  gather(head.rows, count, head.channels + head.first, width, T(1), key);
  gather(head.rows, count, 2 * head.channels + head.first, width, T(1), value);
  turn(key, count, width, turned);
  start_scores(head, scores);
  multiply_turned(query, turned, count, width, padded, scores);
  exponentials(scores, count, padded, sums);
  multiply_weights<T, false>(scores, value, count, width, padded, read);

  for (int64_t c0 = 0; c0 < width; c0 += kPanel, read += count * kPanel) {
    const int64_t columns = width - c0 < kPanel ? width - c0 : kPanel;
    for (int64_t i = 0; i < count; ++i) {
      if (!outputs[i]) continue;
      E* to = outputs[i] + head.first + c0;
      const T share = T(1) / sums[i];
      for (int64_t c = 0; c < columns; ++c) to[c] = narrowed<E>(read[i * kPanel + c] * share);
    }
  }
}

// Panels (count x width), times a factor, to the rows of gradients; of padding, into its sums.
template <typename E>
inline void scatter(const Sum<E>* panels, const Head<E>& head, Sum<E> factor, int64_t part,
                    E* const* rows, Sum<E>* padding) {
  const int64_t first = part * head.channels + head.first;
  for (int64_t c0 = 0; c0 < head.width; c0 += kPanel, panels += head.count * kPanel) {
    const int64_t columns = head.width - c0 < kPanel ? head.width - c0 : kPanel;
    for (int64_t i = 0; i < head.count; ++i) {
      const Sum<E>* from = panels + i * kPanel;
      if (rows[i]) {
        E* to = rows[i] + first + c0;
        for (int64_t c = 0; c < columns; ++c) to[c] = narrowed<E>(from[c] * factor);
      } else {
        Sum<E>* to = padding + part * head.width + c0;
        for (int64_t c = 0; c < columns; ++c) to[c] += from[c] * factor;
      }
    }
  }
}

// Backward through `attend`. `grads`: the gradient of each position's output, zeros on padding.
// Writes `grad_rows` (3 * channels of each position that is not padding), adds to `grad_padding`
// (3, width) and `grad_bias` (count x padded).
template <typename E>
void attend_backward(const Head<E>& head, const E* const* grads, E* const* grad_rows,
                     Sum<E>* grad_padding, Sum<E>* grad_bias, Sum<E>* memory) {
  using T = Sum<E>;
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  const int64_t count = head.count, width = head.width, padded = head.padded;
  const int64_t size = matrix(count, width);
  T *query = memory, *key = query + size, *value = key + size, *product = value + size;
  T *grad = product + size, *turned = grad + size, *weights = turned + width * padded;
  T *grad_scores = weights + count * padded, *sums = grad_scores + count * padded;

  gather(head.rows, count, head.first, width, head.scale, query);
  gather(head.rows, count, head.channels + head.first, width, T(1), key);
  gather(head.rows, count, 2 * head.channels + head.first, width, T(1), value);
  gather(grads, count, head.first, width, T(1), grad);
  turn(key, count, width, turned);
  start_scores(head, weights);
  multiply_turned(query, turned, count, width, padded, weights);
  exponentials(weights, count, padded, sums);

  turn(value, count, width, turned);
  for (int64_t i = 0; i < count * padded; ++i) grad_scores[i] = 0;
  multiply_turned(grad, turned, count, width, padded, grad_scores);  // of the weights, so far
  for (int64_t i = 0; i < count; ++i) {
    T *weight = weights + i * padded, *of = grad_scores + i * padded,
      *bias = grad_bias + i * padded;
    const T share = T(1) / sums[i];
    V sum = V{};
    for (int64_t j = 0; j < padded; j += L) {
      const V normalised = at(weight + j) * share;
      at(weight + j) = normalised;
      sum += normalised * at(of + j);
    }
    const T mean = total<T>(sum);
    for (int64_t j = 0; j < padded; j += L) {
      const V value_of = at(weight + j) * (at(of + j) - mean);
      at(of + j) = value_of;
      at(bias + j) += value_of;
    }
  }

  multiply_weights<T, false>(grad_scores, key, count, width, padded, product);
  scatter(product, head, head.scale, 0, grad_rows, grad_padding);
  multiply_weights<T, true>(grad_scores, query, count, width, padded, product);
  scatter(product, head, T(1), 1, grad_rows, grad_padding);
  multiply_weights<T, true>(weights, grad, count, width, padded, product);
  scatter(product, head, T(1), 2, grad_rows, grad_padding);
}

template <typename E>
constexpr Kernels<E> kernels() {
  return {attend<E>, attend_backward<E>};
}
