// What the threads of a modulated deformable convolution do: gather columns, and take their
// gradients back. Launched by deform_conv.cu.

#pragma once

#include <cstdint>
#include <type_traits>

#include "bilinear.h"
#include "deform_conv.h"

namespace glipkit {
namespace {

constexpr int64_t kWarp = 32;
constexpr int64_t kOutside = -1;  // a corner that is not in the image

// What a type is computed in.
template <typename T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {
  T value[N];
};

template <typename T>
struct Sample {
  Bilinear<T> at;
  T strength;
};

// One image's sample for a tap of an output pixel; `channel` is offset group x tap.
template <typename T>
__device__ Sample<T> locate(const T* offset, const T* mask, const Geometry& g, int64_t channel,
                            int64_t tap, int64_t output) {
  // 32 bits: a division of 64 takes several times as long. check_index_width saw to it.
  const uint32_t row = static_cast<uint32_t>(output) / static_cast<uint32_t>(g.OW);
  const uint32_t column = static_cast<uint32_t>(output) % static_cast<uint32_t>(g.OW);
  const uint32_t tap_row = static_cast<uint32_t>(tap) / static_cast<uint32_t>(g.KW);
  const uint32_t tap_column = static_cast<uint32_t>(tap) % static_cast<uint32_t>(g.KW);
  const int64_t y = row * g.stride[0] - g.padding[0] + tap_row * g.dilation[0];
  const int64_t x = column * g.stride[1] - g.padding[1] + tap_column * g.dilation[1];
  const int64_t P = g.outputs();
  const T down = offset[2 * channel * P + output], right = offset[(2 * channel + 1) * P + output];
  return {bilinear<T>(static_cast<T>(y) + down, static_cast<T>(x) + right, g.H, g.W, kOutside),
          mask[channel * P + output]};
}

// The maps of a call, all images: rows of channels, offsets and masks.
template <typename T>
struct Maps {
  const T* pixels;  // rows of channels
  int64_t pixel_stride, image_stride;
  const Compute<T>* offset;  // (B, offset groups, taps, 2, outputs)
  const Compute<T>* mask;    // (B, offset groups, taps, outputs)
};

// Which image an output pixel is of, and which of that image's outputs it is. `first` counts over
// all images, `pixel` from `first` on.
struct Output {
  int64_t image, index;
};

__device__ inline Output find_output(const Geometry& g, int64_t first, int64_t pixel) {
  const int64_t P = g.outputs();
  // 32 bits again: the outputs of an image and the pixels of a chunk are below 2^31.
  const uint32_t place = static_cast<uint32_t>(first % P) + static_cast<uint32_t>(pixel);
  return {first / P + place / static_cast<uint32_t>(P), place % static_cast<uint32_t>(P)};
}

template <typename T>
__device__ Sample<Compute<T>> locate(const Maps<T>& maps, const Geometry& g, const Output& output,
                                     int64_t channel, int64_t tap) {
  const int64_t image = output.image * g.offset_groups * g.taps() * g.outputs();
  return locate<Compute<T>>(maps.offset + 2 * image, maps.mask + image, g, channel, tap,
                            output.index);
}

// Columns of output pixels [first, first + count) of all images: (groups, count, taps, C / groups).
// A thread does N neighbouring channels, which share a group and an offset group.
template <typename T, int N>
__global__ void gather(Maps<T> maps, Geometry g, int64_t first, int64_t count, T* columns) {
  using C = Compute<T>;
  const uint32_t K = static_cast<uint32_t>(g.taps());
  const uint32_t vectors = static_cast<uint32_t>(g.C / N);
  const uint32_t group_channels = static_cast<uint32_t>(g.group_channels());
  const uint32_t offset_channels = static_cast<uint32_t>(g.C / g.offset_groups);
  const int64_t total = count * K * vectors;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const uint32_t item = static_cast<uint32_t>(i);  // fits: check_index_width
    const uint32_t c = item % vectors * N;
    const uint32_t tap = item / vectors % K;
    const int64_t pixel = item / vectors / K;
    const int64_t channel = static_cast<int64_t>(c / offset_channels) * K + tap;
    const Output output = find_output(g, first, pixel);
    const Sample<C> sample = locate<T>(maps, g, output, channel, tap);
    const T* image = maps.pixels + output.image * maps.image_stride;

    C sum[N] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (sample.at.corner[k] == kOutside) continue;
      const auto corner = *reinterpret_cast<const Vector<T, N>*>(
          image + sample.at.corner[k] * maps.pixel_stride + c);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += sample.at.weight[k] * static_cast<C>(corner.value[j]);
    }
    Vector<T, N> column;
#pragma unroll
    for (int j = 0; j < N; ++j) column.value[j] = static_cast<T>(sum[j] * sample.strength);
    const int64_t group = c / group_channels;
    T* target = columns + ((group * count + pixel) * K + tap) * group_channels + c % group_channels;
    *reinterpret_cast<Vector<T, N>*>(target) = column;
  }
}

// Backward through `gather`: a warp does a sample of one offset group, its lanes the channels.
// Leaves the columns, adds to the gradient of the pixels, writes those of offset and mask.
template <typename T>
__global__ void gather_backward(Maps<T> maps, const T* grad_columns, Geometry g, int64_t first,
                                int64_t count, T* columns, Compute<T>* grad_pixels,
                                Compute<T>* grad_offset, Compute<T>* grad_mask) {
  using C = Compute<T>;
  const uint32_t K = static_cast<uint32_t>(g.taps());
  const uint32_t groups = static_cast<uint32_t>(g.offset_groups);
  const uint32_t group_channels = static_cast<uint32_t>(g.group_channels());
  const uint32_t offset_channels = static_cast<uint32_t>(g.C / g.offset_groups);
  const int64_t P = g.outputs();
  const int64_t total = count * K * groups;
  const uint32_t lane = threadIdx.x % kWarp;
  const int64_t step = static_cast<int64_t>(gridDim.x) * (blockDim.x / kWarp);
  // The bounds are the same for all lanes of a warp: they shuffle together below.
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
       i < total; i += step) {
    const uint32_t item = static_cast<uint32_t>(i);
    const uint32_t offset_group = item % groups;
    const uint32_t tap = item / groups % K;
    const int64_t pixel = item / groups / K;
    const int64_t channel = static_cast<int64_t>(offset_group) * K + tap;
    const Output output = find_output(g, first, pixel);
    const Sample<C> sample = locate<T>(maps, g, output, channel, tap);
    const T* image = maps.pixels + output.image * maps.image_stride;
    C* grad_image = grad_pixels + output.image * g.pixels() * g.C;

    C product[4] = {};  // of the column's gradient with the corners
    for (uint32_t j = lane; j < offset_channels; j += kWarp) {
      const uint32_t c = offset_group * offset_channels + j;
      const int64_t group = c / group_channels;
      const int64_t index =
          ((group * count + pixel) * K + tap) * group_channels + c % group_channels;
      const C grad = static_cast<C>(grad_columns[index]);
      C value = 0;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (sample.at.corner[k] == kOutside) continue;
        const C corner = static_cast<C>(image[sample.at.corner[k] * maps.pixel_stride + c]);
        value += sample.at.weight[k] * corner;
        product[k] += grad * corner;
        atomicAdd(grad_image + sample.at.corner[k] * g.C + c,
                  sample.at.weight[k] * sample.strength * grad);
      }
      columns[index] = static_cast<T>(value * sample.strength);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      for (int distance = kWarp / 2; distance > 0; distance /= 2) {
        product[k] += __shfl_down_sync(0xffffffffu, product[k], distance);
      }
    }
    if (lane != 0) continue;
    const Bilinear<C>& at = sample.at;
    const C left = product[2] - product[0], right = product[3] - product[1];
    const C top = product[1] - product[0], bottom = product[3] - product[2];
    const int64_t map = output.image * g.offset_groups * K + channel;
    C* vertical = grad_offset + 2 * map * P + output.index;
    vertical[0] = sample.strength * ((1 - at.right) * left + at.right * right);
    vertical[P] = sample.strength * ((1 - at.down) * top + at.down * bottom);
    grad_mask[map * P + output.index] = at.weight[0] * product[0] + at.weight[1] * product[1] +
                                        at.weight[2] * product[2] + at.weight[3] * product[3];
  }
}

// Rows of outputs (any, O) += bias (O,).
template <typename T>
__global__ void add_bias(T* rows, const T* bias, int64_t O, int64_t total) {
  using C = Compute<T>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    rows[i] = static_cast<T>(static_cast<C>(rows[i]) + static_cast<C>(bias[i % O]));
  }
}

// sum += part.
template <typename T>
__global__ void accumulate(Compute<T>* sum, const T* part, int64_t total) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    sum[i] += static_cast<Compute<T>>(part[i]);
  }
}

}  // namespace
}  // namespace glipkit
