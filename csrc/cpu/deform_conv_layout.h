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

constexpr int64_t kSmallest = 1 << 16;  // numbers worth waking a thread for, when only moved

// (B, C, H, W), laid out anyhow, to (B, H * W + 1, C): a row of channels for every pixel, and one
// row of zeros, where everything outside the image is read.
template <typename T>
Tensor to_rows(const Tensor& image) {
  const int64_t B = image.size(0), C = image.size(1), H = image.size(2), W = image.size(3);
  const int64_t by_b = image.stride(0), by_c = image.stride(1);
  const int64_t by_h = image.stride(2), by_w = image.stride(3);
  const Tensor rows = new_tensor<T>(image, {B, H * W + 1, C});
  const T* from = static_cast<const T*>(image.const_data_ptr());
  T* to = static_cast<T*>(rows.mutable_data_ptr());
  constexpr int64_t kStep = 16;  // pixels at a time: a cache line of the image in float32
  const int64_t grain = ceil_div(kSmallest, W * C + 1);
  torch::stable::parallel_for(0, B * H, grain, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t b = line / H, y = line % H;
      const T* source = from + b * by_b + y * by_h;
      T* target = to + (b * (H * W + 1) + y * W) * C;
      for (int64_t x0 = 0; x0 < W; x0 += kStep) {
        const int64_t x1 = std::min(x0 + kStep, W);
        for (int64_t c = 0; c < C; ++c) {
          for (int64_t x = x0; x < x1; ++x) target[x * C + c] = source[c * by_c + x * by_w];
        }
      }
    }
  });
  for (int64_t b = 0; b < B; ++b) std::fill_n(to + (b * (H * W + 1) + H * W) * C, C, T(0));
  return rows;
}

// The way back: rows of channels (row_stride apart) to maps of pixels (map_stride apart).
template <typename T>
void to_maps(const T* rows, int64_t row_stride, int64_t pixels, int64_t channels, T* maps,
             int64_t map_stride) {
  constexpr int64_t kStep = 16;
  for (int64_t p0 = 0; p0 < pixels; p0 += kStep) {
    const int64_t p1 = std::min(p0 + kStep, pixels);
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t p = p0; p < p1; ++p) maps[c * map_stride + p] = rows[p * row_stride + c];
    }
  }
}

// (O, C / groups, KH, KW) to (taps, groups, panels of outputs, C / groups, kPanel), zeros behind
// the last output of a group.
template <typename T>
Tensor panels_of_outputs(const Tensor& weight, const Geometry& g) {
  const int64_t panels = ceil_div(g.group_outputs(), kPanel), Cg = g.group_channels();
  const int64_t K = g.taps();
  const Tensor packed = new_zeros<T>(weight, {K, g.groups, panels, Cg, kPanel});
  const T* from = static_cast<const T*>(weight.const_data_ptr());
  T* to = static_cast<T*>(packed.mutable_data_ptr());
  torch::stable::parallel_for(0, g.groups * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t in_group = item % panels * kPanel;
      const int64_t outputs = std::min(kPanel, g.group_outputs() - in_group);
      const T* source = from + (item / panels * g.group_outputs() + in_group) * Cg * K;
      for (int64_t c = 0; c < Cg; ++c) {
        for (int64_t j = 0; j < outputs; ++j) {
          for (int64_t tap = 0; tap < K; ++tap) {
            to[((tap * g.groups * panels + item) * Cg + c) * kPanel + j] =
                source[(j * Cg + c) * K + tap];
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

// The sum over images of (B, segments, taps, O / groups, kPanel), as a weight.
template <typename T>
Tensor weight_of_panels(const Tensor& panels, const Tensor& weight, const Geometry& g,
                        const std::vector<Segment>& segments) {
  const int64_t K = g.taps(), Og = g.group_outputs(), Cg = g.group_channels();
  const int64_t count = static_cast<int64_t>(segments.size());
  const Tensor sum = new_zeros<T>(weight, {g.O, Cg, g.KH, g.KW});
  const T* from = static_cast<const T*>(panels.const_data_ptr());
  T* to = static_cast<T*>(sum.mutable_data_ptr());
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const Segment& segment = segments[s];
      for (int64_t b = 0; b < g.B; ++b) {
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
