// The checks every kernel opens with: the same words on CPU and CUDA, and the value that came.

#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <sstream>
#include <string>

// A failed check reaches Python as a RuntimeError that holds just these words. (STD_TORCH_CHECK puts
// the source file of the build machine in front of them.)
#define GLIPKIT_CHECK(condition, ...)                                              \
  do {                                                                             \
    if (!(condition)) throw std::runtime_error(::glipkit::message(__VA_ARGS__)); \
  } while (false)

namespace glipkit {

template <typename... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// "[3, 5]", as Python prints a size.
inline std::string shape(const torch::stable::Tensor& tensor) {
  std::ostringstream text;
  text << '[';
  for (int64_t i = 0; i < tensor.dim(); ++i) text << (i ? ", " : "") << tensor.size(i);
  text << ']';
  return text.str();
}

inline void check_boxes(const torch::stable::Tensor& boxes) {
  GLIPKIT_CHECK(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must have shape (N, 4), got ",
                shape(boxes));
}

inline void check_one_per_box(const torch::stable::Tensor& values, const char* name,
                              const torch::stable::Tensor& boxes) {
  GLIPKIT_CHECK(values.dim() == 1 && values.size(0) == boxes.size(0), name, " must have shape (",
                boxes.size(0), ",), got ", shape(values));
}

}  // namespace glipkit
