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

constexpr int64_t kOutside = -1;  // a corner that is not in the image
// Of the backward pass: output pixels whose products with their corners are in memory at once, and
// images, each of which has a gradient of the weight of its own.
constexpr int64_t kChunk = 10 * kLargestTile, kMostImages = 4;

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
      samples[i] = bilinear<T>(y, x, g.H, g.W, kOutside);
      if (++column == g.OW) column = 0, ++row;
    }
    return strength(g, group, tap, first);
  }

  const T* strength(const Geometry& g, int64_t group, int64_t tap, int64_t first) const {
    return mask + (group * g.taps() + tap) * g.outputs() + first;
  }
};

// Output pixels of a tile: as many as the cache likes, and few enough for every thread to get some.
int64_t tile_size(const Geometry& g) {
  const int64_t threads = std::max<int64_t>(torch::stable::get_num_threads(), 1);
  const int64_t fits = kTileBudget / (g.C + g.O);
  const int64_t share = ceil_div(g.B * g.outputs(), threads);
  const int64_t step = 14;  // a register tile of AVX-512
  return std::clamp<int64_t>(ceil_div(std::min(fits, share), step) * step, step, kLargestTile);
}

template <typename E>
Tensor forward(const Tensor& input, const Tensor& offset, const Tensor& mask, const Tensor& weight,
               const std::optional<Tensor>& bias, const Geometry& g, bool as_rows) {
  using T = Sum<E>;
  const Tensor output = new_map<E>(input, {g.B, g.O, g.OH, g.OW}, as_rows);
  const Rows<E> pixels(input);
  const Tensor packed = panels_of_outputs<E>(weight, g);
  const E* weights = static_cast<const E*>(packed.const_data_ptr());
  const T* biases = bias ? static_cast<const T*>(bias->const_data_ptr()) : nullptr;
  E* out = static_cast<E*>(output.mutable_data_ptr());

  const ForwardKernels<E>& run = forward_kernels<E>();
  const int64_t P = g.outputs(), Cg = g.group_channels(), Og = g.group_outputs();
  const int64_t per_offset_group = g.C / g.offset_groups;
  const int64_t panels = ceil_div(Og, kPanel), tile = tile_size(g), tiles = ceil_div(P, tile);

  torch::stable::parallel_for(0, g.B * tiles, 1, [&](int64_t begin, int64_t end) {
    const Scratch<Bilinear<T>> samples(tile);
    const Scratch<E> columns(tile * g.C), nothing(g.C), turned(tile * kPanel);
    const Scratch<T> sums(g.groups * panels * tile * kPanel);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / tiles, first = item % tiles * tile;
      const int64_t count = std::min(tile, P - first);
      const E* image = pixels.data + b * pixels.image_stride;
      const Displacement<T> displacement(offset, mask, g, b);
      std::fill_n(sums.get(), g.groups * panels * tile * kPanel, T(0));

      for (int64_t tap = 0; tap < g.taps(); ++tap) {
        for (int64_t d = 0; d < g.offset_groups; ++d) {
          const T* strength = displacement.locate(g, d, tap, first, count, samples.get());
          run.gather(image + d * per_offset_group, pixels.stride, nothing.get(), samples.get(),
                     strength, count, per_offset_group, columns.get() + d * per_offset_group, g.C);
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
        const T* sum = sums.get() + panel * tile * kPanel;
        const T* add = biases ? biases + o : nullptr;
        if (as_rows) {
          run.store(sum, add, count, outputs, out + (b * P + first) * g.O + o, g.O);
        } else {
          run.store(sum, add, count, outputs, turned.get(), kPanel);
          transpose(turned.get(), kPanel, count, outputs, out + (b * g.O + o) * P + first, P);
        }
      }
    }
  });
  return output;
}

// What the backward pass works on at a time: output pixels [first, first + count) of the images
// [image, image + images), which are several only if they are taken whole.
struct Chunk {
  int64_t image, images, first, count;
};

std::vector<Chunk> chunks_of(const Geometry& g) {
  const int64_t P = g.outputs();
  const int64_t images = std::clamp<int64_t>(kChunk / P, 1, kMostImages);
  std::vector<Chunk> chunks;
  for (int64_t b = 0; b < g.B; b += images) {
    for (int64_t first = 0; first < P; first += kChunk) {
      chunks.push_back({b, std::min(images, g.B - b), first, std::min(kChunk, P - first)});
    }
  }
  return chunks;
}

// A chunk's gradients of offset and mask, from the products of each sample's column gradient with
// its four corners, (images, segments, taps, pixels of a chunk, 4).
template <typename T>
void displacement_gradients(const T* products, const Tensor& offset, const Tensor& mask,
                            const Geometry& g, const std::vector<Segment>& segments,
                            const Chunk& chunk, T* grad_offset, T* grad_mask) {
  const int64_t K = g.taps(), P = g.outputs(), S = static_cast<int64_t>(segments.size());
  const int64_t channels = g.offset_groups * K, size = chunk.count;
  torch::stable::parallel_for(0, chunk.images * channels, 1, [&](int64_t begin, int64_t end) {
    const Scratch<Bilinear<T>> samples(size);
    const Scratch<T> totals(4 * size);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / channels, channel = item % channels;
      const int64_t group = channel / K, tap = channel % K;
      const Displacement<T> displacement(offset, mask, g, chunk.image + image);
      const T* strength = displacement.locate(g, group, tap, chunk.first, size, samples.get());
      std::fill_n(totals.get(), 4 * size, T(0));
      for (int64_t s = 0; s < S; ++s) {
        if (segments[s].offset_group != group) continue;
        const T* part = products + ((image * S + s) * K + tap) * size * 4;
        for (int64_t i = 0; i < 4 * size; ++i) totals.get()[i] += part[i];
      }
      const int64_t map = (chunk.image + image) * channels + channel;
      T* vertical = grad_offset + 2 * map * P + chunk.first;
      T* horizontal = vertical + P;
      T* grad_strength = grad_mask + map * P + chunk.first;
      for (int64_t p = 0; p < size; ++p) {
        const Bilinear<T>& at = samples.get()[p];
        const T* corner = totals.get() + 4 * p;
        const T left = corner[2] - corner[0], right = corner[3] - corner[1];
        const T top = corner[1] - corner[0], bottom = corner[3] - corner[2];
        vertical[p] = strength[p] * ((1 - at.right) * left + at.right * right);
        horizontal[p] = strength[p] * ((1 - at.down) * top + at.down * bottom);
        grad_strength[p] = at.weight[0] * corner[0] + at.weight[1] * corner[1] +
                           at.weight[2] * corner[2] + at.weight[3] * corner[3];
      }
    }
  });
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const Tensor& grad_output, const Tensor& input,
                                                    const Tensor& offset, const Tensor& mask,
                                                    const Tensor& weight, const Geometry& g,
                                                    bool as_rows) {
  const int64_t K = g.taps(), P = g.outputs(), Og = g.group_outputs();
  const std::vector<Segment> segments = segments_of(g);
  const std::vector<Chunk> chunks = chunks_of(g);
  const int64_t S = static_cast<int64_t>(segments.size());
  const int64_t slots = chunks.empty() ? 0 : chunks[0].images, most = std::min(P, kChunk);

  const Rows<T> pixels(input), grads(grad_output);
  const Tensor packed = panels_of_inputs<T>(weight, g, segments);
  const Tensor grad_pixel_rows = new_zeros<T>(input, {g.B, g.H, g.W, g.C});
  const Tensor grad_panels = new_zeros<T>(input, {slots, S, K, Og, kPanel});
  const Tensor corner_products = new_tensor<T>(input, {slots, S, K, most, 4});
  const Tensor grad_offset = new_tensor<T>(input, {g.B, offset.size(1), g.OH, g.OW});
  const Tensor grad_mask = new_tensor<T>(input, {g.B, mask.size(1), g.OH, g.OW});
  const T* weights = static_cast<const T*>(packed.const_data_ptr());
  T* grad_pixels = static_cast<T*>(grad_pixel_rows.mutable_data_ptr());
  T* grad_weights = static_cast<T*>(grad_panels.mutable_data_ptr());
  T* products = static_cast<T*>(corner_products.mutable_data_ptr());

  const Kernels<T>& run = kernels<T>();
  for (const Chunk& chunk : chunks) {
    // A thread has some of the input channels to itself, so that no sum is shared between threads.
    torch::stable::parallel_for(0, chunk.images * S, 1, [&](int64_t begin, int64_t end) {
      const Scratch<Bilinear<T>> samples(K * chunk.count);
      const Scratch<T> columns(kLargestTile * kPanel), grad_columns(kLargestTile * kPanel);
      const Scratch<T> nothing(kPanel), grad_nothing(kPanel);
      for (int64_t item = begin; item < end; ++item) {
        const int64_t slot = item / S, s = item % S, b = chunk.image + slot;
        const Segment& segment = segments[s];
        const Displacement<T> displacement(offset, mask, g, b);
        const bool located =
            item > begin && s > 0 && segments[s - 1].offset_group == segment.offset_group;
        for (int64_t tap = 0; !located && tap < K; ++tap) {
          displacement.locate(g, segment.offset_group, tap, chunk.first, chunk.count,
                              samples.get() + tap * chunk.count);
        }
        const T* image = pixels.data + b * pixels.image_stride + segment.first;
        T* grad_image = grad_pixels + b * g.pixels() * g.C + segment.first;
        for (int64_t start = 0; start < chunk.count; start += kLargestTile) {
          const int64_t count = std::min(kLargestTile, chunk.count - start);
          const int64_t first = chunk.first + start;
          const T* grad =
              grads.data + b * grads.image_stride + first * grads.stride + segment.group * Og;
          for (int64_t tap = 0; tap < K; ++tap) {
            const int64_t panel = (s * K + tap) * Og * kPanel;
            std::fill_n(grad_columns.get(), kLargestTile * kPanel, T(0));
            run.forward.multiply(grad, grads.stride, count, Og, weights + panel,
                                 grad_columns.get());
            run.gather_backward(image, pixels.stride, nothing.get(), grad_image, g.C,
                                grad_nothing.get(), samples.get() + tap * chunk.count + start,
                                displacement.strength(g, segment.offset_group, tap, first), count,
                                segment.count, grad_columns.get(), columns.get(),
                                products + ((item * K + tap) * chunk.count + start) * 4);
            run.multiply_transposed(grad, grads.stride, Og, count, columns.get(),
                                    grad_weights + slot * S * K * Og * kPanel + panel);
          }
        }
      }
    });
    displacement_gradients(products, offset, mask, g, segments, chunk,
                           static_cast<T*>(grad_offset.mutable_data_ptr()),
                           static_cast<T*>(grad_mask.mutable_data_ptr()));
  }
  Tensor grad_input = grad_pixel_rows;
  grad_input = torch::stable::transpose(grad_input, 2, 3);
  grad_input = torch::stable::transpose(grad_input, 1, 2);
  return {as_rows ? grad_input : contiguous_map<T>(grad_pixel_rows), grad_offset, grad_mask,
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
    using E = decltype(zero);
    using T = Sum<E>;
    std::optional<Tensor> biases;
    if (bias) biases = contiguous_as<T>(*bias);
    return forward<E>(as_type<E>(input), contiguous_as<T>(offset), contiguous_as<T>(mask),
                      contiguous_as<E>(weight), biases, g, has_rows(input));
  };
  const ScalarType type = input.scalar_type();
  if (type == ScalarType::Double) return run(double{});
  const bool in_pairs = g.group_channels() % kTogether<BFloat16> == 0;
  if (type == ScalarType::BFloat16 && in_pairs && bfloat16_kernels()) return run(BFloat16{});
  return torch::stable::to(run(float{}), type);
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
                       contiguous_as<T>(mask), contiguous_as<T>(weight), g, has_rows(input));
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
