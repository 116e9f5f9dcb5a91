// How cross-attention cuts a picture and its text up, and lays them out for products.
//
// For cross_attention*.cpp alone: everything here is private to them.

#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/cross_attention_targets.h"
#include "cpu/tensors.h"

namespace glipkit {
namespace {

constexpr int64_t kDepth = 256;          // of a product at a time: a panel of b stays in L1
constexpr int64_t kGroupColumns = 512;   // scores of a row that are alive at once, if T allows
constexpr int64_t kTileBytes = 7 << 17;  // of a tile and its scores: what a 1 MB L2 bears
constexpr int64_t kSlices = 16;          // of a picture at most: what threads share
constexpr int64_t kSliceTiles = 4;       // tiles that make a slice worthwhile

// The text of one picture is H * T columns, in groups of whole heads, each padded to panels.
struct Cut {
  int64_t V, C, H, T;
  int64_t group_heads, groups;
  int64_t padded;    // columns of a group, with its padding
  int64_t stride;    // of a row of scores; an odd number of cache lines
  int64_t channels;  // C, padded to panels
  int64_t rows;      // image tokens of a tile
  int64_t slices;

  // `scores` and `tiles`: what the tile holds for each row, in rows of scores and of channels.
  template <typename T>
  static Cut of(int64_t V, int64_t C, int64_t H, int64_t tokens, int64_t scores, int64_t tiles) {
    Cut cut{};
    cut.V = V, cut.C = C, cut.H = H, cut.T = tokens;
    const int64_t most = std::clamp<int64_t>(kGroupColumns / tokens, 1, H);
    cut.groups = ceil_div(H, most);
    cut.group_heads = ceil_div(H, cut.groups);
    cut.padded = ceil_div(cut.group_heads * tokens, kPanel) * kPanel;
    cut.stride = cut.padded + kPanel / 2;
    cut.channels = ceil_div(C, kPanel) * kPanel;
    const int64_t bytes = sizeof(T) * (scores * cut.stride + tiles * cut.channels);
    constexpr int64_t step = 28;  // full register tiles with every instruction set but AVX2
    cut.rows = std::clamp<int64_t>(kTileBytes / bytes / step * step, step, 4 * step);
    cut.slices = std::clamp<int64_t>(ceil_div(V, cut.rows) / kSliceTiles, 1, kSlices);
    return cut;
  }

  int64_t columns() const { return H * T; }
  int64_t heads(int64_t group) const { return std::min(group_heads, H - group * group_heads); }
  int64_t first_column(int64_t group) const { return group * group_heads * T; }
  int64_t panels() const { return channels / kPanel; }
  int64_t padded_columns() const { return groups * padded + kPanel; }  // may be read beyond
  // The first image token of a slice.
  int64_t begin(int64_t slice) const {
    return std::min(ceil_div(V, rows) * slice / slices * rows, V);
  }
};

template <typename T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <typename T>
const T* const_data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

// What is done to scores and to weights.
template <typename T>
struct Options {
  bool residual;  // the image's reads are added to the image
  T limit;
  Dropout<T> image, text;
  uint64_t seed;

  // Random numbers of rows: `dropout` is 0 for the image's, 1 for the text's; `first` counts the
  // image tokens of all pictures.
  void row_keys(uint64_t dropout, int64_t first, int64_t rows, uint32_t* keys) const {
    for (int64_t i = 0; i < rows; ++i) {
      // The finalizer of splitmix64 (Steele et al., "Fast splittable pseudorandom number
      // generators", 2014).
      uint64_t x = seed + (2 * static_cast<uint64_t>(first + i) + dropout) * 0x9e3779b97f4a7c15u;
      x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
      x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
      keys[i] = static_cast<uint32_t>((x ^ (x >> 31)) >> 32);
    }
  }
};

template <typename T>
Dropout<T> dropout_of(double p) {
  const double threshold = std::min(std::round(p * 4294967296.0), 4294967295.0);
  return {static_cast<uint32_t>(threshold), p < 1 ? static_cast<T>(1 / (1 - p)) : T(0)};
}

// (H * T, C) to (groups, padded / kPanel, C, kPanel), zeros behind the last column of a group: for
// products of image tokens with every column.
template <typename T>
Tensor pack_columns(const Tensor& like, const T* from, const Cut& cut) {
  const Tensor packed = new_tensor<T>(like, {cut.groups * cut.padded * cut.C});
  T* to = data<T>(packed);
  const int64_t panels = cut.padded / kPanel;
  torch::stable::parallel_for(0, cut.groups * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t group = item / panels, in_group = item % panels * kPanel;
      const int64_t count = std::clamp<int64_t>(cut.heads(group) * cut.T - in_group, 0, kPanel);
      const T* source = from + (cut.first_column(group) + in_group) * cut.C;
      T* panel = to + item * cut.C * kPanel;
      std::fill_n(panel, cut.C * kPanel, T(0));
      constexpr int64_t kStep = 16;
      for (int64_t c0 = 0; c0 < cut.C; c0 += kStep) {
        const int64_t c1 = std::min(c0 + kStep, cut.C);
        for (int64_t j = 0; j < count; ++j) {
          for (int64_t c = c0; c < c1; ++c) panel[c * kPanel + j] = source[j * cut.C + c];
        }
      }
    }
  });
  return packed;
}

// (rows, C) to (panels of channels, rows, kPanel), zeros behind the last channel.
template <typename T>
void pack_channels(const T* from, int64_t rows, const Cut& cut, T* to) {
  for (int64_t panel = 0; panel < cut.panels(); ++panel) {
    const int64_t count = std::min(kPanel, cut.C - panel * kPanel);
    for (int64_t i = 0; i < rows; ++i) {
      T* target = to + (panel * rows + i) * kPanel;
      std::copy_n(from + i * cut.C + panel * kPanel, count, target);
      std::fill_n(target + count, kPanel - count, T(0));
    }
  }
}

// The same of all columns of the text, for products of their weights with them.
template <typename T>
Tensor pack_channels(const Tensor& like, const T* from, const Cut& cut) {
  const Tensor packed = new_tensor<T>(like, {cut.columns() * cut.channels});
  pack_channels(from, cut.columns(), cut, data<T>(packed));
  return packed;
}

// (H * T) numbers, each group padded with `rest`.
template <typename T>
void pad_groups(const T* from, const Cut& cut, T rest, T* to) {
  std::fill_n(to, cut.padded_columns(), rest);
  for (int64_t group = 0; group < cut.groups; ++group) {
    std::copy_n(from + cut.first_column(group), cut.heads(group) * cut.T, to + group * cut.padded);
  }
}

// The highest score that a token of the text may have: kMasked where nobody may read it.
template <typename T>
void ceiling(const bool* mask, const Cut& cut, T* to) {
  constexpr double kMasked = -9e15;
  for (int64_t t = 0; t < cut.T; ++t) {
    to[t] = mask[t] ? std::numeric_limits<T>::infinity() : static_cast<T>(kMasked);
  }
}

// sums (rows x channels) = tokens (rows x C), or zeros; nobody reads what is behind them.
template <typename T>
void begin_sums(const T* tokens, bool wanted, int64_t rows, const Cut& cut, T* sums) {
  if (!wanted || cut.channels > cut.C) std::fill_n(sums, rows * cut.channels, T(0));
  for (int64_t i = 0; wanted && i < rows; ++i) {
    std::copy_n(tokens + i * cut.C, cut.C, sums + i * cut.channels);
  }
}

// scores (rows x padded) = bias + tokens (rows x C) columns, for one group of packed columns.
template <typename T>
void multiply_columns(const Kernels<T>& run, const T* tokens, int64_t rows, const Cut& cut,
                      const T* columns, const T* bias, T* scores) {
  for (int64_t i = 0; i < rows; ++i) {
    if (bias) {
      std::copy_n(bias, cut.padded, scores + i * cut.stride);
    } else {
      std::fill_n(scores + i * cut.stride, cut.padded, T(0));
    }
  }
  for (int64_t j = 0; j < cut.padded; j += kPanel) {
    for (int64_t c = 0; c < cut.C; c += kDepth) {
      run.multiply(tokens + c, cut.C, rows, std::min(kDepth, cut.C - c),
                   columns + j * cut.C + c * kPanel, scores + j, cut.stride);
    }
  }
}

// sums (rows x channels) += weights (rows x columns of a group) packed channels of the text.
template <typename T>
void multiply_channels(const Kernels<T>& run, const T* weights, int64_t rows, int64_t group,
                       const Cut& cut, const T* packed, T* sums) {
  const int64_t depth = cut.heads(group) * cut.T;
  for (int64_t panel = 0; panel < cut.panels(); ++panel) {
    const T* b = packed + (panel * cut.columns() + cut.first_column(group)) * kPanel;
    for (int64_t k = 0; k < depth; k += kDepth) {
      run.multiply(weights + k, cut.stride, rows, std::min(kDepth, depth - k), b + k * kPanel,
                   sums + panel * kPanel, cut.channels);
    }
  }
}

// sums (columns of a group x channels) += weights^T (columns of a group x rows) packed tokens.
template <typename T>
void multiply_tokens(const Kernels<T>& run, const T* weights, int64_t rows, int64_t group,
                     const Cut& cut, const T* packed, T* sums) {
  for (int64_t panel = 0; panel < cut.panels(); ++panel) {
    run.multiply_turned(
        weights, cut.stride, cut.heads(group) * cut.T, rows, packed + panel * rows * kPanel,
        sums + cut.first_column(group) * cut.channels + panel * kPanel, cut.channels);
  }
}

}  // namespace
}  // namespace glipkit
