// Attention between image and text in both directions on the CPU: its forward pass.
//
// A tile of image tokens meets the columns of the text, some heads at a time, while everything
// stays in the cache of one core: scores, their softmax over the text and what it reads, and what
// the softmax over the image adds to the context. That one keeps a running reference and sum
// (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). The map of all
// scores is never in memory.
//
// A picture is cut into slices that depend on its size alone, so results are the same whatever the
// number of threads.

#include "cross_attention.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>

#include "cpu/cross_attention_partials.h"

namespace glipkit {
namespace {

// One picture's text, as the products want it.
template <typename T>
struct Text {
  Tensor columns, channels;
  std::vector<T> bias, highest;

  Text(const Cut& cut, const T* keys, const T* key_bias, const T* values, const bool* mask,
       const Tensor& like)
      : columns(pack_columns(like, keys, cut)),
        channels(pack_channels(like, values, cut)),
        bias(cut.padded_columns()),
        highest(cut.T + kPanel) {
    pad_groups(key_bias, cut, T(0), bias.data());
    ceiling(mask, cut, highest.data());
  }
};

template <typename T>
struct Slice {
  const Kernels<T>& run;
  const Cut& cut;
  const Text<T>& text;
  const Options<T>& options;
  Scratch<T> packed, sums, scores, weights, largest, total, head, factors;
  Scratch<uint32_t> row_keys;

  Slice(const Kernels<T>& run, const Cut& cut, const Text<T>& text, const Options<T>& options)
      : run(run),
        cut(cut),
        text(text),
        options(options),
        packed(cut.rows * cut.channels),
        sums(cut.rows * cut.channels),
        scores(cut.rows * cut.stride),
        weights(cut.rows * cut.stride),
        largest(cut.padded),
        total(cut.padded),
        head(cut.T + kPanel),
        factors(cut.stride),
        row_keys(cut.rows) {}

  // Tokens [first, first + rows) of picture b, `tokens` and `reads` pointing to the first one.
  void tile(const T* tokens, int64_t b, int64_t first, int64_t rows, const Partial<T>& partial,
            T* reads) const {
    pack_channels(tokens, rows, cut, packed.get());
    begin_sums(tokens, options.residual, rows, cut, sums.get());
    for (int64_t group = 0; group < cut.groups; ++group) {
      multiply_columns(run, tokens, rows, cut,
                       const_data<T>(text.columns) + group * cut.padded * cut.C,
                       text.bias.data() + group * cut.padded, scores.get());
      read_image(b, first, rows, group, partial);
      run.softmax_rows(scores.get(), cut.stride, rows, cut.heads(group), cut.T, text.highest.data(),
                       options.limit, head.get());
      if (options.image.threshold) {
        options.row_keys(0, b * cut.V + first, rows, row_keys.get());
        run.drop(scores.get(), cut.stride, rows, cut.first_column(group), cut.heads(group) * cut.T,
                 row_keys.get(), options.image, total.get(), factors.get());
      }
      multiply_channels(run, scores.get(), rows, group, cut, const_data<T>(text.channels),
                        sums.get());
    }
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(sums.get() + i * cut.channels, cut.C, reads + i * cut.C);
    }
  }

 private:
  // What the text reads of this tile.
  void read_image(int64_t b, int64_t first, int64_t rows, int64_t group,
                  const Partial<T>& partial) const {
    const int64_t start = group * cut.padded;
    std::fill_n(largest.get(), cut.padded, -std::numeric_limits<T>::infinity());
    run.limit_scores(scores.get(), cut.stride, rows, cut.padded, options.limit, largest.get());
    raise(cut, group, largest.get(), partial);
    std::fill_n(total.get(), cut.padded, T(0));
    run.column_weights(scores.get(), weights.get(), cut.stride, rows, cut.padded,
                       partial.reference + start, total.get());
    for (int64_t j = 0; j < cut.padded; ++j) partial.total[start + j] += total.get()[j];
    if (options.text.threshold) {
      options.row_keys(1, b * cut.V + first, rows, row_keys.get());
      run.drop(weights.get(), cut.stride, rows, cut.first_column(group), cut.heads(group) * cut.T,
               row_keys.get(), options.text, partial.kept + start, factors.get());
    }
    multiply_tokens(run, weights.get(), rows, group, cut, packed.get(), partial.context);
  }
};

template <typename T>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> forward(const Tensor& image, const Tensor& keys,
                                                           const Tensor& key_bias,
                                                           const Tensor& values, const Tensor& mask,
                                                           int64_t heads,
                                                           const Options<T>& options) {
  const int64_t B = image.size(0), V = image.size(1), C = image.size(2), N = keys.size(1);
  if (B * V * C * N == 0) {
    return {new_zeros<T>(image, {B, V, C}), new_zeros<T>(image, {B, N, C}),
            new_zeros<T>(image, {B, N}), new_zeros<T>(image, {B, N}), new_zeros<T>(image, {B, N})};
  }
  const Tensor reads = new_tensor<T>(image, {B, V, C}), context = new_tensor<T>(image, {B, N, C});
  const Tensor kept = new_tensor<T>(image, {B, N}), reference = new_tensor<T>(image, {B, N});
  const Tensor total = new_tensor<T>(image, {B, N});

  const Kernels<T>& run = kernels<T>();
  const Cut cut = Cut::of<T>(V, C, heads, N / heads, 2, 3);
  const Partials<T> partials(cut, image);
  for (int64_t b = 0; b < B; ++b) {
    const Text<T> text(cut, const_data<T>(keys) + b * N * C, const_data<T>(key_bias) + b * N,
                       const_data<T>(values) + b * N * C, const_data<bool>(mask) + b * cut.T,
                       image);
    const T* tokens = const_data<T>(image) + b * V * C;
    T* out = data<T>(reads) + b * V * C;
    torch::stable::parallel_for(0, cut.slices, 1, [&](int64_t begin, int64_t end) {
      const Slice<T> slice(run, cut, text, options);
      for (int64_t s = begin; s < end; ++s) {
        const Partial<T> partial = partials.begin(s);
        for (int64_t v = cut.begin(s); v < cut.begin(s + 1); v += cut.rows) {
          slice.tile(tokens + v * C, b, v, std::min(cut.rows, V - v), partial, out + v * C);
        }
      }
    });
    partials.merge(options.text.threshold > 0, data<T>(context) + b * N * C, data<T>(kept) + b * N,
                   data<T>(reference) + b * N, data<T>(total) + b * N);
  }
  return {reads, context, kept, reference, total};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> bidirectional_attention(
    const Tensor& image, const Tensor& keys, const Tensor& key_bias, const Tensor& values,
    const Tensor& text_mask, int64_t num_heads, bool residual, double limit, double image_dropout,
    double text_dropout, const Tensor& seed) {
  check_cross_attention(image, keys, key_bias, values, text_mask, num_heads, seed);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const Options<T> options{residual, static_cast<T>(limit), dropout_of<T>(image_dropout),
                             dropout_of<T>(text_dropout),
                             static_cast<uint64_t>(*const_data<int64_t>(seed))};
    return forward<T>(contiguous_as<T>(image), contiguous_as<T>(keys), contiguous_as<T>(key_bias),
                      contiguous_as<T>(values), torch::stable::contiguous(text_mask), num_heads,
                      options);
  };
  return image.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CPU, m) {
  m.impl("bidirectional_attention", TORCH_BOX(&bidirectional_attention));
}

}  // namespace glipkit
