// The loops of branches.cpp, in GCC's and Clang's vector types.
//
// targets.h includes this once for each instruction set.

template <typename E>
struct Vector {
  using T = Sum<E>;
  using Word = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  typedef T type __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(T)), may_alias));
  typedef Word bits __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(T)), may_alias));
  typedef uint16_t halves
      __attribute__((vector_size(VECTOR_BYTES / 2), aligned(alignof(uint16_t)), may_alias));
  static constexpr int64_t length = VECTOR_BYTES / static_cast<int64_t>(sizeof(T));
};

// A register of what lies at `from`, in the type that is computed in.
template <typename E>
inline typename Vector<E>::type load(const E* from) {
  using V = Vector<E>;
  if constexpr (sizeof(E) == 2) {  // bfloat16: the upper half of a float
    const auto halves = *reinterpret_cast<const typename V::halves*>(from);
    return (typename V::type)(__builtin_convertvector(halves, typename V::bits) << 16);
  } else {
    return *reinterpret_cast<const typename V::type*>(from);
  }
}

template <typename E>
inline void save(E* to, typename Vector<E>::type value) {
  using V = Vector<E>;
  if constexpr (sizeof(E) == 2) {  // rounds to nearest, ties to even
    const typename V::bits nan = (typename V::bits)(value != value);
    typename V::bits bits = (typename V::bits)value;
    bits += 0x7fff + ((bits >> 16) & 1);
    bits = (bits & ~nan) | (nan & 0x7fc00000);
    *reinterpret_cast<typename V::halves*>(to) =
        __builtin_convertvector(bits >> 16, typename V::halves);
  } else {
    *reinterpret_cast<typename V::type*>(to) = value;
  }
}

// Of `count` pixels, for each channel: the mean, the sum of squared distances to it, and the sum of
// the values times `weights` (one for each pixel; none: zeros).
template <typename E>
void moments(const E* pixels, int64_t stride, const Sum<E>* weights, int64_t count,
             int64_t channels, Sum<E>* results) {
  using T = Sum<E>;
  using V = typename Vector<E>::type;
  for (int64_t c = 0; c < channels; c += Vector<E>::length) {
    V mean = V{}, weighted = V{}, squares = V{};
    for (int64_t i = 0; i < count; ++i) {
      const V value = load(pixels + i * stride + c);
      mean += value;
      if (weights) weighted += weights[i] * value;
    }
    mean /= static_cast<T>(count);
    for (int64_t i = 0; i < count; ++i) {
      const V distance = load(pixels + i * stride + c) - mean;
      squares += distance * distance;
    }
    *reinterpret_cast<V*>(results + c) = mean;
    *reinterpret_cast<V*>(results + channels + c) = squares;
    *reinterpret_cast<V*>(results + 2 * channels + c) = weighted;
  }
}

// One row of the mix.
template <typename E>
void mix(const MixRow<E>& row, int64_t channels, E* to) {
  using T = Sum<E>;
  using V = typename Vector<E>::type;
  const auto coefficient = [&](int64_t k, int64_t c) __attribute__((always_inline)) {
    return reinterpret_cast<const V*>(row.coefficients + k * channels + c);
  };
  const T down = row.down, up = 1 - down;
  for (int64_t x = 0; x < row.width; ++x) {
    const E* same = row.same + x * row.same_stride;
    const E* finer = row.finer ? row.finer + x * row.finer_stride : nullptr;
    const E *top_left = nullptr, *top_right = nullptr, *low_left = nullptr, *low_right = nullptr;
    T weight[4] = {};
    if (row.top) {
      const int64_t left = row.left[x] * row.coarse_stride;
      const int64_t right = row.right[x] * row.coarse_stride;
      top_left = row.top + left, top_right = row.top + right;
      low_left = row.low + left, low_right = row.low + right;
      const T across = row.across[x];
      weight[0] = up * (1 - across), weight[1] = up * across;
      weight[2] = down * (1 - across), weight[3] = down * across;
    }
    for (int64_t c = 0; c < channels; c += Vector<E>::length) {
      V sum = *coefficient(3, c) + *coefficient(0, c) * load(same + c);
      if (finer) sum += *coefficient(1, c) * load(finer + c);
      if (top_left) {
        sum +=
            *coefficient(2, c) * (weight[0] * load(top_left + c) + weight[1] * load(top_right + c) +
                                  weight[2] * load(low_left + c) + weight[3] * load(low_right + c));
      }
      const V one = *coefficient(4, c) * sum + *coefficient(5, c);
      const V other = *coefficient(6, c) * sum + *coefficient(7, c);
      // Not a number stays so.
      const V larger = (one > other) | (one != one) ? one : other;
      save(to + x * channels + c, larger);
    }
  }
}

template <typename E>
constexpr Kernels<E> kernels() {
  return {moments<E>, mix<E>};
}
