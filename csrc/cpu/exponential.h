// exp of a vector, for softmaxes: at most a few units in the last place from the true value.
//
// A part of the kernels of an operator, as matrix_product.h, which it brings along.

#ifndef EXPONENTIAL
#define EXPONENTIAL

#include "cpu/matrix_product.h"

template <typename T>
struct Exponential;

// 2^n e^r with n = round(x / ln 2) and |r| < 0.35; adding `kRound` rounds, and leaves n in the low
// bits. e^r - 1 - r is a polynomial that starts at r^2: a minimax one of the Cephes library in
// float32, Taylor's in float64. Below kLowest all is 0, even -infinity.
template <>
struct Exponential<float> {
  typedef int32_t Integer;
  static constexpr float kRound = 12582912.0f, kLowest = -87.33f, kHighest = 88.37f;
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kCoefficients[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                            4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
};

template <>
struct Exponential<double> {
  typedef int64_t Integer;
  static constexpr double kRound = 6755399441055744.0, kLowest = -708.3, kHighest = 709.7;
  static constexpr double kLn2High = 0.69314718036912382, kLn2Low = 1.9082149292705877e-10;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kCoefficients[] = {
      1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
      1.0 / 362880.0,     1.0 / 40320.0,     1.0 / 5040.0,     1.0 / 720.0,
      1.0 / 120.0,        1.0 / 24.0,        1.0 / 6.0,        1.0 / 2.0};
};

template <typename T>
inline typename Vector<T>::type exponential(typename Vector<T>::type x) {
  using V = typename Vector<T>::type;
  using E = Exponential<T>;
  typedef typename E::Integer Integers __attribute__((vector_size(VECTOR_BYTES)));
  const V highest = V{} + E::kHighest, zero = V{};
  const Integers low = x < E::kLowest;
  V bounded = low ? zero : x;  // neither may leave the range of n; NaN stays
  bounded = bounded > highest ? highest : bounded;
  const V shifted = bounded * static_cast<T>(1.4426950408889634) + E::kRound;
  const V n = shifted - E::kRound;
  const V r = (bounded - n * E::kLn2High) - n * E::kLn2Low;
  V p = V{} + E::kCoefficients[0];
  constexpr int count = sizeof(E::kCoefficients) / sizeof(T);
#pragma GCC unroll 16
  for (int i = 1; i < count; ++i) p = p * r + E::kCoefficients[i];
  const Integers power = (reinterpret_cast<Integers>(shifted) + E::kBias) << E::kMantissa;
  const V value = (p * (r * r) + r + static_cast<T>(1)) * reinterpret_cast<V>(power);
  return low ? zero : value;
}

#endif
