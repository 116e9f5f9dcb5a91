// The hot loops of cross-attention: what happens to a tile of scores between its products.
//
// targets.h includes this once for each instruction set. A tile is rows of scores, `stride` apart,
// of some heads side by side, and may be read and written up to its stride.

#include "cpu/exponential.h"

template <typename T>
struct Lanes {
  typedef typename Exponential<T>::Integer Integer;
  typedef Integer type __attribute__((vector_size(VECTOR_BYTES)));
  // Loaded, because GCC would put the vector together from its numbers time and again.
  alignas(VECTOR_BYTES) static constexpr Integer kNumbers[] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                               8, 9, 10, 11, 12, 13, 14, 15};
  static type numbers() { return *reinterpret_cast<const type*>(kNumbers); }
};

// All ones in the first `count` lanes, zeros in the others.
template <typename T>
inline typename Lanes<T>::type first_lanes(int64_t count) {
  return Lanes<T>::numbers() < static_cast<typename Lanes<T>::Integer>(count);
}

template <typename T, bool MAXIMUM>
inline T folded(typename Vector<T>::type v) {
#if defined(__clang__)
  T all = v[0];
  for (int64_t j = 1; j < Vector<T>::length; ++j) {
    all = MAXIMUM ? (v[j] > all ? v[j] : all) : all + v[j];
  }
  return all;
#else
#pragma GCC unroll 4
  for (int64_t step = Vector<T>::length / 2; step > 0; step /= 2) {
    const typename Vector<T>::type other =
        __builtin_shuffle(v, Lanes<T>::numbers() ^ static_cast<typename Lanes<T>::Integer>(step));
    v = MAXIMUM ? (v > other ? v : other) : v + other;
  }
  return v[0];
#endif
}

// `v` in [-limit, limit]; NaN stays.
template <typename T>
inline typename Vector<T>::type limited(typename Vector<T>::type v, T limit) {
  const typename Vector<T>::type highest = typename Vector<T>::type{} + limit;
  v = v > highest ? highest : v;
  return v < -highest ? -highest : v;
}

// Cuts the scores, and raises `largest` (columns) to the largest of each column.
template <typename T>
void limit_scores(T* scores, int64_t stride, int64_t rows, int64_t columns, T limit, T* largest) {
  for (int64_t i = 0; i < rows; ++i) {
    T* row = scores + i * stride;
    for (int64_t j = 0; j < columns; j += Vector<T>::length) {
      const typename Vector<T>::type v = limited(at(row + j), limit), most = at(largest + j);
      at(row + j) = v;
      at(largest + j) = v > most ? v : most;
    }
  }
}

// weights = exp(scores - reference of the column), and their sums over the rows.
template <typename T>
void column_weights(const T* scores, T* weights, int64_t stride, int64_t rows, int64_t columns,
                    const T* reference, T* total) {
  for (int64_t i = 0; i < rows; ++i) {
    const T* row = scores + i * stride;
    T* weight = weights + i * stride;
    for (int64_t j = 0; j < columns; j += Vector<T>::length) {
      const auto v = exponential<T>(at(row + j) - at(reference + j));
      at(weight + j) = v;
      at(total + j) += v;
    }
  }
}

// exp(score - largest score) of one head, `tokens` of them, with zeros up to a whole vector;
// scores above `ceiling` (MASKED for what nobody may read) count as that. Returns 1 / their sum.
template <typename T>
inline T head_weights(const T* scores, int64_t tokens, const T* ceiling, T limit, T* weights) {
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  const V lowest = V{} - static_cast<T>(__builtin_inf()), zero = V{};
  V most = lowest;
  for (int64_t t = 0; t < tokens; t += L) {
    const V highest = at(ceiling + t);
    V v = limited(at(scores + t), limit);
    v = v > highest ? highest : v;
    at(weights + t) = v;
    v = first_lanes<T>(tokens - t) ? v : lowest;
    most = v > most ? v : most;
  }
  const T largest = folded<T, true>(most);
  V sum = zero;
  for (int64_t t = 0; t < tokens; t += L) {
    V v = exponential<T>(at(weights + t) - largest);
    v = first_lanes<T>(tokens - t) ? v : zero;
    at(weights + t) = v;
    sum += v;
  }
  return 1 / folded<T, false>(sum);
}

// The softmax over the text, in place; `weights` is memory for one head.
template <typename T>
void softmax_rows(T* scores, int64_t stride, int64_t rows, int64_t heads, int64_t tokens,
                  const T* ceiling, T limit, T* weights) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t h = 0; h < heads; ++h) {
      T* head = scores + i * stride + h * tokens;
      const T factor = head_weights(head, tokens, ceiling, limit, weights);
      for (int64_t t = 0; t < tokens; t += Vector<T>::length) {
        at(head + t) = first_lanes<T>(tokens - t) ? at(weights + t) * factor : at(head + t);
      }
    }
  }
}

// Wellons' lowbias32: every bit of the answer depends on every bit of x.
inline uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// 0 for what is dropped of a row of scores, else dropout.scale.
template <typename T>
inline void dropout_factors(uint32_t key, int64_t first, int64_t columns, Dropout<T> dropout,
                            T* factors) {
  for (int64_t j = 0; j < columns; ++j) {
    const uint32_t bits = mixed(key + static_cast<uint32_t>(first + j) * 0x9e3779b9u);
    factors[j] = bits < dropout.threshold ? T(0) : dropout.scale;
  }
}

// Drops weights in place; adds what is kept to `kept`, column by column. `first` is the number of
// the first column among those of all heads; `factors` is memory for one row.
template <typename T>
void drop(T* weights, int64_t stride, int64_t rows, int64_t first, int64_t columns,
          const uint32_t* keys, Dropout<T> dropout, T* kept, T* factors) {
  for (int64_t i = 0; i < rows; ++i) {
    dropout_factors(keys[i], first, columns, dropout, factors);
    T* row = weights + i * stride;
    for (int64_t j = 0; j < columns; j += Vector<T>::length) {
      const typename Vector<T>::type v = at(row + j) * at(factors + j);
      at(row + j) = v;
      at(kept + j) += v;
    }
  }
}

// From scores and the gradients of both kinds of weights (before dropout), row by row and in place:
// scores -> weights over the text, dropped; grad_reads -> the gradient of the scores, whose sums
// over the rows are added to grad_bias; grad_context -> weights over the image, dropped.
template <typename T>
void score_gradients(T* scores, T* grad_reads, T* grad_context, int64_t stride, int64_t rows,
                     int64_t heads, int64_t tokens, const T* ceiling, T limit,
                     const ColumnSums<T>& sums, const DropoutRows<T>& dropout, T* grad_bias,
                     T* weights) {
  using V = typename Vector<T>::type;
  constexpr int64_t L = Vector<T>::length;
  const V zero = V{}, highest = V{} + limit;
  for (int64_t i = 0; i < rows; ++i) {
    if (dropout.image.threshold) {
      dropout_factors(dropout.image_keys[i], dropout.first, heads * tokens, dropout.image,
                      dropout.image_factors);
    }
    if (dropout.text.threshold) {
      dropout_factors(dropout.text_keys[i], dropout.first, heads * tokens, dropout.text,
                      dropout.text_factors);
    }
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t column = h * tokens, start = i * stride + column;
      const T factor = head_weights(scores + start, tokens, ceiling, limit, weights);
      V dot = zero;
      for (int64_t t = 0; t < tokens; t += L) {
        const V weight = at(weights + t) * factor;
        const V grad = at(grad_reads + start + t) * at(dropout.image_factors + column + t);
        at(weights + t) = weight;
        dot += first_lanes<T>(tokens - t) ? weight * grad : zero;
      }
      const T mean = folded<T, false>(dot);
      for (int64_t t = 0; t < tokens; t += L) {
        const auto keep = first_lanes<T>(tokens - t);
        const int64_t j = column + t;
        T *score = scores + start + t, *read = grad_reads + start + t;
        T* seen = grad_context + start + t;
        const V raw = at(score), kept = at(dropout.image_factors + j), weight = at(weights + t);
        V grad = weight * (at(read) * kept - mean);
        grad = at(ceiling + t) < zero ? zero : grad;  // a masked score is no score
        const V text_kept = at(dropout.text_factors + j);
        const V over_image =
            exponential<T>(limited(raw, limit) - at(sums.reference + j)) * at(sums.factor + j);
        grad += over_image * ((at(seen) + at(sums.grad_kept + j)) * text_kept - at(sums.mean + j));
        grad = (raw > highest) | (raw < -highest) ? zero : grad;
        at(score) = keep ? weight * kept : raw;
        at(read) = keep ? grad : at(read);
        at(seen) = keep ? over_image * text_kept : at(seen);
        at(grad_bias + j) += keep ? grad : zero;
      }
    }
  }
}

template <typename T>
constexpr Kernels<T> kernels() {
  return {multiply_into<T, false>, multiply_into<T, true>, limit_scores<T>,
          column_weights<T>,       softmax_rows<T>,        drop<T>,
          score_gradients<T>};
}
