// The checks of the attention between image and text.

#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <utility>

#include "checks.h"

namespace glipkit {

// Shapes and devices, of whatever types.
inline void check_attention_shapes(const torch::stable::Tensor& image,
                                   const torch::stable::Tensor& keys,
                                   const torch::stable::Tensor& key_bias,
                                   const torch::stable::Tensor& values,
                                   const torch::stable::Tensor& text_mask, int64_t num_heads) {
  GLIPKIT_CHECK(image.dim() == 3, "image must have shape (B, V, C), got ", shape(image));
  GLIPKIT_CHECK(num_heads > 0, "num_heads must be at least 1, got ", num_heads);
  GLIPKIT_CHECK(text_mask.dim() == 2 && text_mask.size(0) == image.size(0),
                "text_mask must have shape (", image.size(0), ", T), got ", shape(text_mask));
  const int64_t B = image.size(0), C = image.size(2), N = num_heads * text_mask.size(1);
  for (const auto& [tensor, name] : {std::pair{&keys, "keys"}, std::pair{&values, "values"}}) {
    GLIPKIT_CHECK(
        tensor->dim() == 3 && tensor->size(0) == B && tensor->size(1) == N && tensor->size(2) == C,
        name, " must have shape (", B, ", ", N, ", ", C, "), got ", shape(*tensor));
    check_same_device(*tensor, name, image, "image");
  }
  GLIPKIT_CHECK(key_bias.dim() == 2 && key_bias.size(0) == B && key_bias.size(1) == N,
                "key_bias must have shape (", B, ", ", N, "), got ", shape(key_bias));
  check_same_device(key_bias, "key_bias", image, "image");
  check_same_device(text_mask, "text_mask", image, "image");
}

// The types of keys, key_bias, values and text_mask.
inline void check_text_types(torch::headeronly::ScalarType wanted, const char* why,
                             const torch::stable::Tensor& keys,
                             const torch::stable::Tensor& key_bias,
                             const torch::stable::Tensor& values,
                             const torch::stable::Tensor& text_mask) {
  for (const auto& [tensor, name] :
       {std::pair{&keys, "keys"}, std::pair{&key_bias, "key_bias"}, std::pair{&values, "values"}}) {
    GLIPKIT_CHECK(tensor->scalar_type() == wanted, name, " must be ",
                  torch::headeronly::toString(wanted), why, ", got ",
                  torch::headeronly::toString(tensor->scalar_type()));
  }
  GLIPKIT_CHECK(text_mask.scalar_type() == torch::headeronly::ScalarType::Bool,
                "text_mask must be bool, got ",
                torch::headeronly::toString(text_mask.scalar_type()));
}

inline void check_cross_attention(const torch::stable::Tensor& image,
                                  const torch::stable::Tensor& keys,
                                  const torch::stable::Tensor& key_bias,
                                  const torch::stable::Tensor& values,
                                  const torch::stable::Tensor& text_mask, int64_t num_heads,
                                  const torch::stable::Tensor& seed) {
  check_attention_shapes(image, keys, key_bias, values, text_mask, num_heads);
  check_float(image, "image");
  check_text_types(image.scalar_type(), " like image", keys, key_bias, values, text_mask);
  GLIPKIT_CHECK(seed.numel() == 1 && seed.scalar_type() == torch::headeronly::ScalarType::Long,
                "seed must be one int64 number, got shape ", shape(seed));
}

inline void check_cross_attention_bfloat16(const torch::stable::Tensor& image,
                                           const torch::stable::Tensor& keys,
                                           const torch::stable::Tensor& key_bias,
                                           const torch::stable::Tensor& values,
                                           const torch::stable::Tensor& text_mask,
                                           int64_t num_heads) {
  using torch::headeronly::ScalarType;
  check_attention_shapes(image, keys, key_bias, values, text_mask, num_heads);
  const ScalarType type = image.scalar_type();
  GLIPKIT_CHECK(type == ScalarType::BFloat16 || type == ScalarType::Float,
                "image must be bfloat16 or float32, got ", torch::headeronly::toString(type));
  check_text_types(ScalarType::BFloat16, "", keys, key_bias, values, text_mask);
}

// A result of the forward pass, or its gradient: (B, rows, columns), or (B, rows) for one column.
inline void check_results(const torch::stable::Tensor& tensor, const char* name,
                          const torch::stable::Tensor& image, int64_t rows, int64_t columns) {
  GLIPKIT_CHECK(tensor.dim() >= 2 && tensor.size(0) == image.size(0) && tensor.size(1) == rows &&
                    tensor.numel() == image.size(0) * rows * columns,
                name, " must have ", columns, " numbers for each of ", rows, " rows of ",
                image.size(0), " pictures, got ", shape(tensor));
  check_same_device(tensor, name, image, "image");
}

}  // namespace glipkit
