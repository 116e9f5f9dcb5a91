// Tensors of a wanted type, and memory of a thread: what every CPU operator needs around its loops.
//
// In an anonymous namespace: each operator has its own copy.

#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>

#include <cstdint>
#include <new>
#include <type_traits>
#include <vector>

namespace glipkit {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Memory of one thread, on a cache line, filled with zeros.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t size) : data_(new (std::align_val_t{64}) T[size]()) {}
  ~Scratch() { operator delete[](data_, std::align_val_t{64}); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }

 private:
  T* data_;
};

template <typename T>
constexpr ScalarType scalar_type() {
  if (std::is_same_v<T, torch::headeronly::BFloat16>) return ScalarType::BFloat16;
  return std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float;
}

template <typename T>
Tensor as_type(const Tensor& tensor) {
  return torch::stable::to(tensor, scalar_type<T>());
}

template <typename T>
Tensor new_tensor(const Tensor& like, std::vector<int64_t> size) {
  return torch::stable::new_empty(like, size, scalar_type<T>());
}

template <typename T>
Tensor new_zeros(const Tensor& like, std::vector<int64_t> size) {
  return torch::stable::new_zeros(like, size, scalar_type<T>());
}

template <typename T>
Tensor contiguous_as(const Tensor& tensor) {
  return torch::stable::contiguous(as_type<T>(tensor));
}

}  // namespace
}  // namespace glipkit
