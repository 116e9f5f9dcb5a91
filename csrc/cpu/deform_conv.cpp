// Modulated deformable convolution on the CPU, forward and backward.
//
// Everything works on rows of channels: the input is turned once so that the channels of a pixel
// lie together, a sample's corners and weights are found once for all channels, and a sample is
// then four rows added in vector registers. Columns exist only for a tile of output pixels and one
// tap; they are multiplied with that tap's weights while they are in the cache. The sums of a tile
// stay there too, over all taps.
//
// float32 and float64 compute as they are; half precision computes in float32. No sum depends on
// how many threads there are: results are the same from run to run.

#include "deform_conv.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "cpu/deform_conv_layout.h"
#include "cpu/deform_conv_targets.h"

namespace glipkit {
namespace {

// Columns and sums of a tile, in numbers: a quarter of a 1 MB second-level cache in float32.
constexpr int64_t kTileBudget = 1 << 16;
constexpr int64_t kLargestTile = 112;  // a multiple of every TILE_ROWS but 6; larger gains nothing

// One image's offsets and masks, (offset groups, taps, 2 or 1, outputs).
template <typename T>
struct Displacement {
  const T* offset;
  const T* mask;

  Displacement(const Tensor& offsets, const Tensor& masks, const Geometry& g, int64_t image)
      : offset(static_cast<const T*>(offsets.const_data_ptr()) +
               image * g.offset_groups * g.taps() * 2 * g.outputs()),
        mask(static_cast<const T*>(masks.const_data_ptr()) +
             image * g.offset_groups * g.taps() * g.outputs()) {}

  // The samples of one tap for output pixels [first, first + count), and their masks.
  const T* locate(const Geometry& g, int64_t group, int64_t tap, int64_t first, int64_t count,
                  Bilinear<T>* samples) const {
    const int64_t channel = group * g.taps() + tap;
    const T* vertical = offset + 2 * channel * g.outputs() + first;
    const T* horizontal = vertical + g.outputs();
    const int64_t shift_y = tap / g.KW * g.dilation[0] - g.padding[0];
    const int64_t shift_x = tap % g.KW * g.dilation[1] - g.padding[1];
    int64_t row = first / g.OW, column = first % g.OW;
    for (int64_t i = 0; i < count; ++i) {
      const T y = static_cast<T>(row * g.stride[0] + shift_y) + vertical[i];
      const T x = static_cast<T>(column * g.stride[1] + shift_x) + horizontal[i];
      samples[i] = bilinear<T>(y, x, g.H, g.W, g.pixels());
      if (++column == g.OW) column = 0, ++row;
    }
    return mask + channel * g.outputs() + first;
  }
};

// Output pixels of a tile: as many as the cache likes, and few enough for every thread to get some.
int64_t tile_size(const Geometry& g) {
  const int64_t threads = std::max<int64_t>(torch::stable::get_num_threads(), 1);
  const int64_t fits = kTileBudget / (g.C + g.O);
  const int64_t share = ceil_div(g.B * g.outputs(), threads);
  const int64_t step = 28;  // full register tiles with every instruction set but AVX2
  return std::clamp<int64_t>(ceil_div(std::min(fits, share), step) * step, step, kLargestTile);
}

template <typename T>
Tensor forward(const Tensor& input, const Tensor& offset, const Tensor& mask, const Tensor& weight,
               const std::optional<Tensor>& bias, const Geometry& g) {
  const Tensor output = new_tensor<T>(input, {g.B, g.O, g.OH, g.OW});
  const Tensor rows = to_rows<T>(input);
  const Tensor packed = panels_of_outputs<T>(weight, g);
  const T* pixels = static_cast<const T*>(rows.const_data_ptr());
  const T* weights = static_cast<const T*>(packed.const_data_ptr());
  const T* biases = bias ? static_cast<const T*>(bias->const_data_ptr()) : nullptr;
  T* out = static_cast<T*>(output.mutable_data_ptr());

  const Kernels<T>& run = kernels<T>();
  const int64_t P = g.outputs(), Cg = g.group_channels(), Og = g.group_outputs();
  const int64_t per_offset_group = g.C / g.offset_groups;
  const int64_t panels = ceil_div(Og, kPanel), tile = tile_size(g), tiles = ceil_div(P, tile);

  torch::stable::parallel_for(0, g.B * tiles, 1, [&](int64_t begin, int64_t end) {
    const Scratch<Bilinear<T>> samples(tile);
    const Scratch<T> columns(tile * g.C), sums(g.groups * panels * tile * kPanel);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / tiles, first = item % tiles * tile;
      const int64_t count = std::min(tile, P - first);
      const T* image = pixels + b * (g.pixels() + 1) * g.C;
      const Displacement<T> displacement(offset, mask, g, b);
      std::fill_n(sums.get(), g.groups * panels * tile * kPanel, T(0));

      for (int64_t tap = 0; tap < g.taps(); ++tap) {
        for (int64_t d = 0; d < g.offset_groups; ++d) {
          const T* strength = displacement.locate(g, d, tap, first, count, samples.get());
          run.gather(image + d * per_offset_group, g.C, samples.get(), strength, count,
                     per_offset_group, columns.get() + d * per_offset_group, g.C);
        }
        for (int64_t panel = 0; panel < g.groups * panels; ++panel) {
          run.multiply(columns.get() + panel / panels * Cg, g.C, count, Cg,
                       weights + (tap * g.groups * panels + panel) * Cg * kPanel,
                       sums.get() + panel * tile * kPanel);
        }
      }
      for (int64_t panel = 0; panel < g.groups * panels; ++panel) {
        const int64_t in_group = panel % panels * kPanel;
        const int64_t o = panel / panels * Og + in_group;
        const int64_t outputs = std::min(kPanel, Og - in_group);
        T* sum = sums.get() + panel * tile * kPanel;
        for (int64_t i = 0; biases && i < count; ++i) {
          for (int64_t j = 0; j < outputs; ++j) sum[i * kPanel + j] += biases[o + j];
        }
        to_maps(sum, kPanel, count, outputs, out + (b * g.O + o) * P + first, P);
      }
    }
  });
  return output;
}

// The gradients of offset and mask, from the products of each sample's column gradient with its
// four corners, (B, segments, taps, outputs, 4).
template <typename T>
void displacement_gradients(const T* products, const Tensor& offset, const Tensor& mask,
                            const Geometry& g, const std::vector<Segment>& segments, T* grad_offset,
                            T* grad_mask) {
  const int64_t K = g.taps(), P = g.outputs(), count = static_cast<int64_t>(segments.size());
  torch::stable::parallel_for(0, g.B * g.offset_groups * K, 1, [&](int64_t begin, int64_t end) {
    const Scratch<Bilinear<T>> samples(P);
    const Scratch<T> totals(4 * P);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / (g.offset_groups * K), channel = item % (g.offset_groups * K);
      const int64_t group = channel / K, tap = channel % K;
      const Displacement<T> displacement(offset, mask, g, b);
      const T* strength = displacement.locate(g, group, tap, 0, P, samples.get());
      std::fill_n(totals.get(), 4 * P, T(0));
      for (int64_t s = 0; s < count; ++s) {
        if (segments[s].offset_group != group) continue;
        const T* part = products + ((b * count + s) * K + tap) * P * 4;
        for (int64_t i = 0; i < 4 * P; ++i) totals.get()[i] += part[i];
      }
      T* vertical = grad_offset + 2 * item * P;
      T* horizontal = vertical + P;
      for (int64_t p = 0; p < P; ++p) {
        const Bilinear<T>& at = samples.get()[p];
        const T* corner = totals.get() + 4 * p;
        const T left = corner[2] - corner[0], right = corner[3] - corner[1];
        const T top = corner[1] - corner[0], bottom = corner[3] - corner[2];
        vertical[p] = strength[p] * ((1 - at.right) * left + at.right * right);
        horizontal[p] = strength[p] * ((1 - at.down) * top + at.down * bottom);
        grad_mask[item * P + p] = at.weight[0] * corner[0] + at.weight[1] * corner[1] +
                                  at.weight[2] * corner[2] + at.weight[3] * corner[3];
      }
    }
  });
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& input,
                                                    const Tensor& offset, const Tensor& mask,
                                                    const Tensor& weight, const Geometry& g) {
  const int64_t K = g.taps(), P = g.outputs(), Og = g.group_outputs();
  const std::vector<Segment> segments = segments_of(g);
  const int64_t S = static_cast<int64_t>(segments.size());

  const Tensor rows = to_rows<T>(input), grad_rows = to_rows<T>(grad_output);
  const Tensor grad_maps = torch::stable::contiguous(grad_output);
  const Tensor packed = panels_of_inputs<T>(weight, g, segments);
  const Tensor grad_pixel_rows = new_zeros<T>(input, {g.B, g.pixels() + 1, g.C});
  const Tensor grad_panels = new_zeros<T>(input, {g.B, S, K, Og, kPanel});
  const Tensor corner_products = new_tensor<T>(input, {g.B, S, K, P, 4});
  const T* pixels = static_cast<const T*>(rows.const_data_ptr());
  const T* grads_by_pixel = static_cast<const T*>(grad_rows.const_data_ptr());
  const T* grads_by_channel = static_cast<const T*>(grad_maps.const_data_ptr());
  const T* weights = static_cast<const T*>(packed.const_data_ptr());
  T* grad_pixels = static_cast<T*>(grad_pixel_rows.mutable_data_ptr());
  T* grad_weights = static_cast<T*>(grad_panels.mutable_data_ptr());
  T* products = static_cast<T*>(corner_products.mutable_data_ptr());

  const Kernels<T>& run = kernels<T>();
  torch::stable::parallel_for(0, g.B * S, 1, [&](int64_t begin, int64_t end) {
    const Scratch<Bilinear<T>> samples(kLargestTile);
    const Scratch<T> columns(kLargestTile * kPanel), grad_columns(kLargestTile * kPanel);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / S, s = item % S;
      const Segment& segment = segments[s];
      const int64_t image = b * (g.pixels() + 1) * g.C + segment.first;
      const int64_t o = segment.group * Og;
      const Displacement<T> displacement(offset, mask, g, b);
      for (int64_t first = 0; first < P; first += kLargestTile) {
        const int64_t count = std::min(kLargestTile, P - first);
        for (int64_t tap = 0; tap < K; ++tap) {
          const T* strength =
              displacement.locate(g, segment.offset_group, tap, first, count, samples.get());
          std::fill_n(grad_columns.get(), kLargestTile * kPanel, T(0));
          run.multiply(grads_by_pixel + (b * (P + 1) + first) * g.O + o, g.O, count, Og,
                       weights + (s * K + tap) * Og * kPanel, grad_columns.get());
          run.gather_backward(pixels + image, grad_pixels + image, g.C, samples.get(), strength,
                              count, segment.count, grad_columns.get(), columns.get(),
                              products + ((item * K + tap) * P + first) * 4, 4);
          run.multiply(grads_by_channel + (b * g.O + o) * P + first, P, Og, count, columns.get(),
                       grad_weights + (item * K + tap) * Og * kPanel);
        }
      }
    }
  });

  const Tensor grad_input = new_tensor<T>(input, {g.B, g.C, g.H, g.W});
  const Tensor grad_offset = new_tensor<T>(input, {g.B, offset.size(1), g.OH, g.OW});
  const Tensor grad_mask = new_tensor<T>(input, {g.B, mask.size(1), g.OH, g.OW});
  T* to = static_cast<T*>(grad_input.mutable_data_ptr());
  torch::stable::parallel_for(0, g.B * S, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / S, c = segments[item % S].first;
      to_maps(grad_pixels + b * (g.pixels() + 1) * g.C + c, g.C, g.pixels(),
              segments[item % S].count, to + (b * g.C + c) * g.pixels(), g.pixels());
    }
  });
  displacement_gradients(products, offset, mask, g, segments,
                         static_cast<T*>(grad_offset.mutable_data_ptr()),
                         static_cast<T*>(grad_mask.mutable_data_ptr()));
  return {grad_input, grad_offset, grad_mask,
          weight_of_panels<T>(grad_panels, weight, g, segments)};
}

void check_input_type(const Tensor& input) {
  const ScalarType type = input.scalar_type();
  GLIPKIT_CHECK(type == ScalarType::Float || type == ScalarType::Double ||
                    type == ScalarType::BFloat16 || type == ScalarType::Half,
                "input must be float32, float64, bfloat16 or float16");
}

Tensor modulated_deform_conv2d(const Tensor& input, const Tensor& offset, const Tensor& mask,
                               const Tensor& weight, const std::optional<Tensor>& bias,
                               const std::vector<int64_t>& stride,
                               const std::vector<int64_t>& padding,
                               const std::vector<int64_t>& dilation) {
  check_input_type(input);
  const Geometry g = check_deform_conv(input, offset, mask, weight, stride, padding, dilation);
  if (bias) check_bias(*bias, input, g);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    std::optional<Tensor> biases;
    if (bias) biases = contiguous_as<T>(*bias);
    return forward<T>(as_type<T>(input), contiguous_as<T>(offset), contiguous_as<T>(mask),
                      contiguous_as<T>(weight), biases, g);
  };
  const Tensor output = input.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return torch::stable::to(output, input.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor, Tensor> modulated_deform_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& offset, const Tensor& mask,
    const Tensor& weight, const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
    const std::vector<int64_t>& dilation) {
  check_input_type(input);
  const Geometry g = check_deform_conv(input, offset, mask, weight, stride, padding, dilation);
  check_grad_output(grad_output, input, g);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    return backward<T>(as_type<T>(grad_output), as_type<T>(input), contiguous_as<T>(offset),
                       contiguous_as<T>(mask), contiguous_as<T>(weight), g);
  };
  const auto [grad_input, grad_offset, grad_mask, grad_weight] =
      input.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return {torch::stable::to(grad_input, input.scalar_type()),
          torch::stable::to(grad_offset, offset.scalar_type()),
          torch::stable::to(grad_mask, mask.scalar_type()),
          torch::stable::to(grad_weight, weight.scalar_type())};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CPU, m) {
  m.impl("modulated_deform_conv2d", TORCH_BOX(&modulated_deform_conv2d));
  m.impl("modulated_deform_conv2d_backward", TORCH_BOX(&modulated_deform_conv2d_backward));
}

}  // namespace glipkit
