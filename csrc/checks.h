// The checks every kernel opens with: the same words on CPU and CUDA, and the value that came.

#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

// A failed check reaches Python as a RuntimeError of just these words. (STD_TORCH_CHECK would put
// function, file and line of the build machine in front of them.)
#define GLIPKIT_CHECK(condition, ...)                                            \
  do {                                                                           \
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

inline void check_same_device(const torch::stable::Tensor& tensor, const char* name,
                              const torch::stable::Tensor& other, const char* other_name) {
  GLIPKIT_CHECK(
      tensor.is_cuda() == other.is_cuda() && tensor.get_device_index() == other.get_device_index(),
      name, " must be on the same device as ", other_name);
}

inline void check_float(const torch::stable::Tensor& tensor, const char* name) {
  using torch::headeronly::ScalarType;
  const ScalarType type = tensor.scalar_type();
  GLIPKIT_CHECK(type == ScalarType::Float || type == ScalarType::Double, name,
                " must be float32 or float64, got ", torch::headeronly::toString(type));
}

inline void check_nms_types(const torch::stable::Tensor& boxes, const torch::stable::Tensor& scores,
                            const torch::stable::Tensor& groups) {
  check_same_device(scores, "scores", boxes, "boxes");
  check_same_device(groups, "groups", boxes, "boxes");
  check_float(boxes, "boxes");
  check_float(scores, "scores");
  GLIPKIT_CHECK(groups.scalar_type() == torch::headeronly::ScalarType::Long,
                "groups must be int64, got ", torch::headeronly::toString(groups.scalar_type()));
}

inline void check_nms_arguments(const torch::stable::Tensor& boxes,
                                const torch::stable::Tensor& scores,
                                const torch::stable::Tensor& groups) {
  GLIPKIT_CHECK(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must have shape (N, 4), got ",
                shape(boxes));
  const auto check = [&](const torch::stable::Tensor& values, const char* name) {
    GLIPKIT_CHECK(values.dim() == 1 && values.size(0) == boxes.size(0), name, " must have shape (",
                  boxes.size(0), ",), got ", shape(values));
  };
  check(scores, "scores");
  check(groups, "groups");
  check_nms_types(boxes, scores, groups);
}

inline void check_nms_mask_arguments(const torch::stable::Tensor& boxes,
                                     const torch::stable::Tensor& scores,
                                     const torch::stable::Tensor& groups) {
  GLIPKIT_CHECK(boxes.dim() == 3 && boxes.size(2) == 4, "boxes must have shape (B, N, 4), got ",
                shape(boxes));
  const auto check = [&](const torch::stable::Tensor& values, const char* name) {
    GLIPKIT_CHECK(
        values.dim() == 2 && values.size(0) == boxes.size(0) && values.size(1) == boxes.size(1),
        name, " must have shape (", boxes.size(0), ", ", boxes.size(1), "), got ", shape(values));
  };
  check(scores, "scores");
  check(groups, "groups");
  check_nms_types(boxes, scores, groups);
}

}  // namespace glipkit
