// Rows of channels, panels of weights: how deform_conv.cpp lays its tensors out, and back again.
//
// For deform_conv.cpp alone: everything here is private to it.

#pragma once

#include <algorithm>
#include <vector>

#include "cpu/deform_conv_targets.h"
#include "cpu/tensors.h"
#include "deform_conv.h"

namespace glipkit {
namespace {

template <typename U>
struct Four {
  typedef U type __attribute__((vector_size(4 * sizeof(U)), aligned(alignof(U)), may_alias));
};

// to[j * to_stride + i] = from[i * from_stride + j], 4 x 4 numbers.
template <typename U>
inline void transpose_four(const U* from, int64_t from_stride, U* to, int64_t to_stride) {
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
  using V = typename Four<U>::type;
  const V a = *reinterpret_cast<const V*>(from);
  const V b = *reinterpret_cast<const V*>(from + from_stride);
  const V c = *reinterpret_cast<const V*>(from + 2 * from_stride);
  const V d = *reinterpret_cast<const V*>(from + 3 * from_stride);
  const V ab01 = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const V ab23 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const V cd01 = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const V cd23 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *reinterpret_cast<V*>(to) = __builtin_shufflevector(ab01, cd01, 0, 1, 4, 5);
  *reinterpret_cast<V*>(to + to_stride) = __builtin_shufflevector(ab01, cd01, 2, 3, 6, 7);
  *reinterpret_cast<V*>(to + 2 * to_stride) = __builtin_shufflevector(ab23, cd23, 0, 1, 4, 5);
  *reinterpret_cast<V*>(to + 3 * to_stride) = __builtin_shufflevector(ab23, cd23, 2, 3, 6, 7);
#else
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) to[j * to_stride + i] = from[i * from_stride + j];
  }
#endif
}

// The bits of a type, to be moved.
template <typename E>
using Bits = std::conditional_t<sizeof(E) == 8, uint64_t,
                                std::conditional_t<sizeof(E) == 4, uint32_t, uint16_t>>;

// (rows, columns), rows from_stride apart, to (columns, rows), rows to_stride apart.
template <typename E>
void transpose(const E* source, int64_t from_stride, int64_t rows, int64_t columns, E* target,
               int64_t to_stride) {
  const Bits<E>* from = reinterpret_cast<const Bits<E>*>(source);
  Bits<E>* to = reinterpret_cast<Bits<E>*>(target);
  constexpr int64_t kStep = 16;  // at a time: a cache line of floats
  const auto one_by_one = [&](int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    for (int64_t j = j0; j < j1; ++j) {
      for (int64_t i = i0; i < i1; ++i) to[j * to_stride + i] = from[i * from_stride + j];
    }
  };
  const int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t i0 = 0; i0 < whole_rows; i0 += kStep) {
    for (int64_t j = 0; j < whole_columns; j += 4) {
      for (int64_t i = i0; i < std::min(i0 + kStep, whole_rows); i += 4) {
        transpose_four(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
      }
    }
  }
  one_by_one(0, whole_rows, whole_columns, columns);
  one_by_one(whole_rows, rows, 0, columns);
}

// A map as rows of channels, one for each pixel: where it lies if it can, a copy otherwise.
template <typename E>
struct Rows {
  Tensor memory;
  const E* data;
  int64_t stride, image_stride;

  explicit Rows(const Tensor& map) {
    const int64_t B = map.size(0), C = map.size(1), H = map.size(2), W = map.size(3);
    if (has_rows(map)) {
      memory = map;
      stride = W > 1 ? map.stride(3) : map.stride(2);
      image_stride = map.stride(0);
    } else {
      const Tensor maps = torch::stable::contiguous(map);
      memory = torch::stable::new_empty(map, {B, H * W, C});
      stride = C;
      image_stride = H * W * C;
      const E* from = static_cast<const E*>(maps.const_data_ptr());
      E* to = static_cast<E*>(memory.mutable_data_ptr());
      constexpr int64_t kStep = 1 << 14;  // numbers: little enough to stay in the cache
      const int64_t pixels =
          std::max<int64_t>(ceil_div(kStep / std::max<int64_t>(C, 1), 16), 1) * 16;
      const int64_t parts = ceil_div(H * W, pixels);
      torch::stable::parallel_for(0, B * parts, 4, [&](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; ++item) {
          const int64_t b = item / parts, first = item % parts * pixels;
          transpose(from + b * image_stride + first, H * W, C, std::min(pixels, H * W - first),
                    to + b * image_stride + first * C, C);
        }
      });
    }
    data = static_cast<const E*>(memory.const_data_ptr());
  }
};

// A new (B, C, H, W), in memory as (B, H, W, C) if `rows` says so.
template <typename E>
Tensor new_map(const Tensor& like, std::vector<int64_t> size, bool rows) {
  if (!rows) return new_tensor<E>(like, size);
  Tensor memory = new_tensor<E>(like, {size[0], size[2], size[3], size[1]});
  Tensor view = torch::stable::transpose(memory, 2, 3);
  return torch::stable::transpose(view, 1, 2);
}

// (B, H, W, C), contiguous, to (B, C, H, W), contiguous.
template <typename E>
Tensor contiguous_map(const Tensor& rows) {
  const int64_t B = rows.size(0), pixels = rows.size(1) * rows.size(2), C = rows.size(3);
  const Tensor map = new_tensor<E>(rows, {B, C, rows.size(1), rows.size(2)});
  const E* from = static_cast<const E*>(rows.const_data_ptr());
  E* to = static_cast<E*>(map.mutable_data_ptr());
  constexpr int64_t kStep = 64;
  const int64_t parts = ceil_div(pixels, kStep);
  torch::stable::parallel_for(0, B * parts, 4, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / parts, first = item % parts * kStep;
      transpose(from + (b * pixels + first) * C, C, std::min(kStep, pixels - first), C,
                to + b * pixels * C + first, pixels);
    }
  });
  return map;
}

// (O, C / groups, KH, KW) to (taps, groups, panels of outputs, C / groups, kPanel), zeros behind
// the last output of a group; `kTogether` channels side by side.
template <typename E>
Tensor panels_of_outputs(const Tensor& weight, const Geometry& g) {
  const int64_t panels = ceil_div(g.group_outputs(), kPanel), Cg = g.group_channels();
  const int64_t K = g.taps();
  constexpr int64_t N = kTogether<E>, kStep = 16;  // channels at a time: L1 holds all their taps
  const int64_t steps = ceil_div(Cg, kStep);
  const Tensor packed = new_tensor<E>(weight, {K, g.groups, panels, Cg, kPanel});
  const E* from = static_cast<const E*>(weight.const_data_ptr());
  E* to = static_cast<E*>(packed.mutable_data_ptr());
  torch::stable::parallel_for(0, g.groups * panels * steps, 8, [&](int64_t begin, int64_t end) {
    const Scratch<E> turned(kStep * K * kPanel);  // (channels, taps, kPanel)
    for (int64_t item = begin; item < end; ++item) {
      const int64_t panel = item / steps, first = item % steps * kStep;
      const int64_t in_group = panel % panels * kPanel, channels = std::min(kStep, Cg - first);
      const int64_t outputs = std::min(kPanel, g.group_outputs() - in_group);
      const int64_t o = panel / panels * g.group_outputs() + in_group;
      if (outputs < kPanel) std::fill_n(turned.get(), kStep * K * kPanel, E(0));
      transpose(from + (o * Cg + first) * K, Cg * K, outputs, channels * K, turned.get(), kPanel);
      for (int64_t tap = 0; tap < K; ++tap) {
        E* target = to + ((tap * g.groups * panels + panel) * Cg + first) * kPanel;
        for (int64_t c = 0; c < channels; c += N) {
          const E* source = turned.get() + (c * K + tap) * kPanel;
          for (int64_t j = 0; j < kPanel; ++j) {
            for (int64_t n = 0; n < N; ++n) {
              target[c * kPanel + j * N + n] = source[n * K * kPanel + j];
            }
          }
        }
      }
    }
  });
  return packed;
}

// At most kPanel input channels that share a group and an offset group: what one thread of the
// backward pass works on, alone, so that no sum is shared between threads.
struct Segment {
  int64_t first, count, group, offset_group;
};

std::vector<Segment> segments_of(const Geometry& g) {
  const int64_t Cg = g.group_channels(), Cd = g.C / g.offset_groups;
  std::vector<Segment> segments;
  for (int64_t c = 0; c < g.C;) {
    const int64_t end = std::min({c + kPanel, (c / Cg + 1) * Cg, (c / Cd + 1) * Cd});
    segments.push_back({c, end - c, c / Cg, c / Cd});
    c = end;
  }
  return segments;
}

// (O, C / groups, KH, KW) to (segments, taps, O / groups, kPanel), zeros behind a segment's last
// channel; and back.
template <typename T>
Tensor panels_of_inputs(const Tensor& weight, const Geometry& g,
                        const std::vector<Segment>& segments) {
  const int64_t K = g.taps(), Og = g.group_outputs(), Cg = g.group_channels();
  const int64_t count = static_cast<int64_t>(segments.size());
  const Tensor packed = new_zeros<T>(weight, {count, K, Og, kPanel});
  const T* from = static_cast<const T*>(weight.const_data_ptr());
  T* to = static_cast<T*>(packed.mutable_data_ptr());
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const Segment& segment = segments[s];
      for (int64_t o = 0; o < Og; ++o) {
        const T* row = from + ((segment.group * Og + o) * Cg + segment.first % Cg) * K;
        for (int64_t c = 0; c < segment.count; ++c) {
          for (int64_t tap = 0; tap < K; ++tap) {
            to[((s * K + tap) * Og + o) * kPanel + c] = row[c * K + tap];
          }
        }
      }
    }
  });
  return packed;
}

// The sum over `slots` of (slots, segments, taps, O / groups, kPanel), as a weight.
template <typename T>
Tensor weight_of_panels(const Tensor& panels, const Tensor& weight, const Geometry& g,
                        const std::vector<Segment>& segments) {
  const int64_t slots = panels.size(0);
  const int64_t K = g.taps(), Og = g.group_outputs(), Cg = g.group_channels();
  const int64_t count = static_cast<int64_t>(segments.size());
  const Tensor sum = new_zeros<T>(weight, {g.O, Cg, g.KH, g.KW});
  const T* from = static_cast<const T*>(panels.const_data_ptr());
  T* to = static_cast<T*>(sum.mutable_data_ptr());
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const Segment& segment = segments[s];
      for (int64_t b = 0; b < slots; ++b) {
        for (int64_t o = 0; o < Og; ++o) {
          T* row = to + ((segment.group * Og + o) * Cg + segment.first % Cg) * K;
          for (int64_t c = 0; c < segment.count; ++c) {
            for (int64_t tap = 0; tap < K; ++tap) {
              row[c * K + tap] += from[(((b * count + s) * K + tap) * Og + o) * kPanel + c];
            }
          }
        }
      }
    }
  });
  return sum;
}

}  // namespace
}  // namespace glipkit
