// The sizes of a modulated deformable convolution, and the checks that its tensors agree on them.

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bilinear.h"
#include "checks.h"

namespace glipkit {

struct Geometry {
  int64_t B, C, H, W;  // input
  int64_t O, KH, KW;   // weight
  int64_t OH, OW;      // output
  int64_t groups;
  int64_t offset_groups;
  int64_t stride[2], padding[2], dilation[2];  // vertical, horizontal

  GLIPKIT_HOST_DEVICE int64_t taps() const { return KH * KW; }
  GLIPKIT_HOST_DEVICE int64_t pixels() const { return H * W; }
  GLIPKIT_HOST_DEVICE int64_t outputs() const { return OH * OW; }
  GLIPKIT_HOST_DEVICE int64_t group_channels() const { return C / groups; }
  GLIPKIT_HOST_DEVICE int64_t group_outputs() const { return O / groups; }
};

inline int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding,
                           int64_t dilation) {
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

inline void check_shape(const torch::stable::Tensor& tensor, const char* name,
                        const std::vector<int64_t>& expected) {
  std::ostringstream text;
  bool same = tensor.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    text << (i ? ", " : "") << expected[i];
    same = same && tensor.size(static_cast<int64_t>(i)) == expected[i];
  }
  GLIPKIT_CHECK(same, name, " must have shape [", text.str(), "], got ", shape(tensor));
}

// A kernel reads memory as the type it believes in, so this is no mere courtesy; nor is the device.
inline void check_type(const torch::stable::Tensor& tensor, const char* name,
                       const torch::stable::Tensor& other, const char* other_name) {
  GLIPKIT_CHECK(tensor.scalar_type() == other.scalar_type(), name, " must have the type of ",
                other_name);
  GLIPKIT_CHECK(
      tensor.is_cuda() == other.is_cuda() && tensor.get_device_index() == other.get_device_index(),
      name, " must be on the device of ", other_name);
}

// Whether a map, (B, C, H, W), is to be read, and answered, as rows of channels: they lie together,
// pixels at equal distances. glipkit/ops/deform_conv.py says the same of its fake tensors.
inline bool has_rows(const torch::stable::Tensor& map) {
  if (map.is_contiguous() || map.size(1) < 2 || map.stride(1) != 1) return false;
  return map.size(2) < 2 || map.size(3) < 2 || map.stride(2) == map.size(3) * map.stride(3);
}

// Reads the sizes off the tensors and checks everything that a kernel relies on.
inline Geometry check_deform_conv(const torch::stable::Tensor& input,
                                  const torch::stable::Tensor& offset,
                                  const torch::stable::Tensor& mask,
                                  const torch::stable::Tensor& weight,
                                  const std::vector<int64_t>& stride,
                                  const std::vector<int64_t>& padding,
                                  const std::vector<int64_t>& dilation) {
  GLIPKIT_CHECK(input.dim() == 4, "input must have 4 dimensions, got shape ", shape(input));
  GLIPKIT_CHECK(offset.dim() == 4, "offset must have 4 dimensions, got shape ", shape(offset));
  GLIPKIT_CHECK(weight.dim() == 4 && weight.numel() > 0,
                "weight must have 4 dimensions and not be empty, got shape ", shape(weight));
  GLIPKIT_CHECK(stride.size() == 2 && padding.size() == 2 && dilation.size() == 2,
                "stride, padding and dilation must have 2 numbers each");
  for (int i = 0; i < 2; ++i) {
    GLIPKIT_CHECK(stride[i] >= 1 && padding[i] >= 0 && dilation[i] >= 1,
                  "stride and dilation must be at least 1 and padding at least 0, got ", stride[i],
                  ", ", dilation[i], " and ", padding[i]);
  }
  GLIPKIT_CHECK(input.size(1) > 0 && input.size(1) % weight.size(1) == 0,
                "input channels must be a multiple of weight.shape[1] = ", weight.size(1), ", got ",
                input.size(1));

  Geometry g;
  g.B = input.size(0), g.C = input.size(1), g.H = input.size(2), g.W = input.size(3);
  g.O = weight.size(0), g.KH = weight.size(2), g.KW = weight.size(3);
  for (int i = 0; i < 2; ++i) {
    g.stride[i] = stride[i], g.padding[i] = padding[i], g.dilation[i] = dilation[i];
  }
  g.OH = output_size(g.H, g.KH, stride[0], padding[0], dilation[0]);
  g.OW = output_size(g.W, g.KW, stride[1], padding[1], dilation[1]);
  GLIPKIT_CHECK(g.OH > 0 && g.OW > 0, "the kernel must fit into the padded input, got input ",
                shape(input), " and weight ", shape(weight));
  g.groups = g.C / weight.size(1);
  GLIPKIT_CHECK(g.O % g.groups == 0, "output channels must be a multiple of the ", g.groups,
                " groups, got ", g.O);
  const int64_t per_group = 2 * g.taps();
  g.offset_groups = offset.size(1) < per_group ? 1 : offset.size(1) / per_group;
  check_shape(offset, "offset", {g.B, g.offset_groups * per_group, g.OH, g.OW});
  check_shape(mask, "mask", {g.B, g.offset_groups * g.taps(), g.OH, g.OW});
  GLIPKIT_CHECK(g.C % g.offset_groups == 0, "input channels must be a multiple of the ",
                g.offset_groups, " offset groups, got ", g.C);
  check_type(weight, "weight", input, "input");
  check_type(mask, "mask", offset, "offset");
  const bool is_double = input.scalar_type() == torch::headeronly::ScalarType::Double;
  if (is_double || offset.scalar_type() != torch::headeronly::ScalarType::Float) {
    check_type(offset, "offset", input, "input");
  }
  return g;
}

inline void check_bias(const torch::stable::Tensor& bias, const torch::stable::Tensor& input,
                       const Geometry& g) {
  check_shape(bias, "bias", {g.O});
  check_type(bias, "bias", input, "input");
}

inline void check_grad_output(const torch::stable::Tensor& grad_output,
                              const torch::stable::Tensor& input, const Geometry& g) {
  check_shape(grad_output, "grad_output", {g.B, g.O, g.OH, g.OW});
  check_type(grad_output, "grad_output", input, "input");
}

}  // namespace glipkit
