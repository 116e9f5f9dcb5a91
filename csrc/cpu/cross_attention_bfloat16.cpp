// Attention between image and text in both directions on the CPU, its products in bfloat16: the
// forward pass of cross_attention.cpp for inference, where the processor multiplies that type.
//
// Tiles, slices and their merging are the same. Image, keys, values and the weights that are
// multiplied are rounded to bfloat16; scores, softmaxes and sums are float32 throughout.

#include "cpu/cross_attention_bfloat16.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/cross_attention_partials.h"
#include "cross_attention.h"

namespace glipkit {
namespace {

using torch::headeronly::BFloat16;

#if defined(__x86_64__)
namespace run = avx512_bf16;

// One picture's text, as the products want it: two rows of their right sides lie together.
struct Text {
  const Cut& cut;
  const int64_t depth;       // C, even
  const int64_t group_rows;  // columns of a group as rows of a right side, even
  Scratch<BFloat16> columns, channels;
  std::vector<float> bias, highest;

  Text(const Cut& cut, const BFloat16* keys, const float* key_bias, const BFloat16* values,
       const bool* mask)
      : cut(cut),
        depth(ceil_div(cut.C, 2) * 2),
        group_rows(ceil_div(cut.group_heads * cut.T, 2) * 2),
        columns(cut.groups * cut.padded * depth),
        channels(cut.groups * group_rows * cut.channels),
        bias(cut.padded_columns()),
        highest(cut.T + kPanel) {
    pad_groups(key_bias, cut, 0.0f, bias.data());
    ceiling(mask, cut, highest.data());
    torch::stable::parallel_for(0, cut.groups, 1, [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group) {
        const int64_t first = cut.first_column(group), count = cut.heads(group) * cut.T;
        run::pack_rows(values + first * cut.C, cut.C, count, cut.C, group_channels(group, 0),
                       cut.groups * group_rows * kPanel);
        for (int64_t j = 0; j < count; ++j) turn(keys + (first + j) * cut.C, group, j);
      }
    });
  }

  // (C / 2, kPanel, 2): the columns [j, j + kPanel) of a group.
  BFloat16* group_columns(int64_t group, int64_t j) const {
    return columns.get() + (group * cut.padded + j) * depth;
  }

  // (columns of a group / 2, kPanel, 2): some channels of a group.
  BFloat16* group_channels(int64_t group, int64_t panel) const {
    return channels.get() + (panel * cut.groups + group) * group_rows * kPanel;
  }

 private:
  void turn(const BFloat16* key, int64_t group, int64_t j) const {
    BFloat16* to = group_columns(group, j / kPanel * kPanel) + 2 * (j % kPanel);
    for (int64_t c = 0; c < cut.C; ++c) to[c / 2 * 2 * kPanel + c % 2] = key[c];
  }
};

// Of an image whose numbers are E: float, or BFloat16.
template <typename E>
struct Slice {
  const Cut& cut;
  const Text& text;
  const bool residual;
  const float limit;
  Scratch<BFloat16> tokens, packed, weights;
  Scratch<float> sums, scores, largest, total, head;

  Slice(const Cut& cut, const Text& text, bool residual, float limit)
      : cut(cut),
        text(text),
        residual(residual),
        limit(limit),
        tokens(cut.rows * cut.channels),
        packed(cut.rows * cut.channels),
        weights(cut.rows * cut.stride),
        sums(cut.rows * cut.channels),
        scores(cut.rows * cut.stride),
        largest(cut.padded),
        total(cut.padded),
        head(cut.T + kPanel) {}

  // `rows` image tokens, `image` and `reads` pointing to the first one.
  void tile(const E* image, int64_t rows, const Partial<float>& partial, E* reads) const {
    const int64_t pairs = ceil_div(rows, 2) * 2;
    begin(image, rows);
    run::pack_rows(tokens.get(), cut.channels, rows, cut.channels, packed.get(), pairs * kPanel);
    for (int64_t group = 0; group < cut.groups; ++group) {
      multiply_columns(group, rows);
      read_image(group, rows, partial);
      run::softmax_rows(scores.get(), cut.stride, rows, cut.heads(group), cut.T,
                        text.highest.data(), limit, head.get(), weights.get());
      multiply_channels(group, rows);
    }
    for (int64_t i = 0; i < rows; ++i) {
      const float* row = sums.get() + i * cut.channels;
      if constexpr (std::is_same_v<E, float>) {
        std::copy_n(row, cut.C, reads + i * cut.C);
      } else {
        run::narrow(row, cut.C, reads + i * cut.C);
      }
    }
  }

 private:
  // The tokens as bfloat16 with zeros behind them, and as what the reads are added to.
  void begin(const E* image, int64_t rows) const {
    if (!residual) std::fill_n(sums.get(), rows * cut.channels, 0.0f);
    for (int64_t i = 0; i < rows; ++i) {
      const E* row = image + i * cut.C;
      BFloat16* token = tokens.get() + i * cut.channels;
      float* sum = sums.get() + i * cut.channels;
      if constexpr (std::is_same_v<E, float>) {
        run::narrow(row, cut.C, token);
        if (residual) std::copy_n(row, cut.C, sum);
      } else {
        std::copy_n(row, cut.C, token);
        if (residual) run::widen(row, cut.C, sum);
      }
    }
  }

  // scores (rows x padded) = bias + tokens (rows x C) columns of a group.
  void multiply_columns(int64_t group, int64_t rows) const {
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(text.bias.data() + group * cut.padded, cut.padded, scores.get() + i * cut.stride);
    }
    for (int64_t j = 0; j < cut.padded; j += kPanel) {
      const BFloat16* columns = text.group_columns(group, j);
      for (int64_t c = 0; c < text.depth; c += kDepth) {
        run::multiply_into<false>(tokens.get() + c, cut.channels, rows,
                                  std::min(kDepth, text.depth - c), columns + c * kPanel,
                                  scores.get() + j, cut.stride);
      }
    }
  }

  // sums (rows x channels) += weights (rows x columns of a group) channels of the text.
  void multiply_channels(int64_t group, int64_t rows) const {
    const int64_t depth = ceil_div(cut.heads(group) * cut.T, 2) * 2;
    for (int64_t panel = 0; panel < cut.panels(); ++panel) {
      const BFloat16* channels = text.group_channels(group, panel);
      for (int64_t k = 0; k < depth; k += kDepth) {
        run::multiply_into<false>(weights.get() + k, cut.stride, rows, std::min(kDepth, depth - k),
                                  channels + k * kPanel, sums.get() + panel * kPanel, cut.channels);
      }
    }
  }

  // What the text reads of this tile.
  void read_image(int64_t group, int64_t rows, const Partial<float>& partial) const {
    const int64_t start = group * cut.padded, pairs = ceil_div(rows, 2) * 2;
    std::fill_n(largest.get(), cut.padded, -std::numeric_limits<float>::infinity());
    run::floats::limit_scores(scores.get(), cut.stride, rows, cut.padded, limit, largest.get());
    raise(cut, group, largest.get(), partial);
    std::fill_n(total.get(), cut.padded, 0.0f);
    run::column_weights(scores.get(), cut.stride, rows, cut.padded, partial.reference + start,
                        total.get(), weights.get());
    for (int64_t j = 0; j < cut.padded; ++j) partial.total[start + j] += total.get()[j];
    float* context = partial.context + cut.first_column(group) * cut.channels;
    for (int64_t panel = 0; panel < cut.panels(); ++panel) {
      run::multiply_into<true>(weights.get(), 2 * cut.stride, cut.heads(group) * cut.T, pairs,
                               packed.get() + panel * pairs * kPanel, context + panel * kPanel,
                               cut.channels);
    }
  }
};

template <typename E>
void forward(const Tensor& image, const Tensor& keys, const Tensor& key_bias, const Tensor& values,
             const Tensor& mask, int64_t heads, bool residual, float limit, const Tensor& reads,
             const Tensor& context, const Tensor& kept) {
  const int64_t B = image.size(0), V = image.size(1), C = image.size(2), N = keys.size(1);
  const Cut cut = Cut::of<float>(V, C, heads, N / heads, 2, 2);
  const Partials<float> partials(cut, image);
  std::vector<float> reference(N), total(N);
  for (int64_t b = 0; b < B; ++b) {
    const Text text(cut, const_data<BFloat16>(keys) + b * N * C,
                    const_data<float>(key_bias) + b * N, const_data<BFloat16>(values) + b * N * C,
                    const_data<bool>(mask) + b * cut.T);
    const E* tokens = const_data<E>(image) + b * V * C;
    E* out = data<E>(reads) + b * V * C;
    torch::stable::parallel_for(0, cut.slices, 1, [&](int64_t begin, int64_t end) {
      const Slice<E> slice(cut, text, residual, limit);
      for (int64_t s = begin; s < end; ++s) {
        const Partial<float> partial = partials.begin(s);
        for (int64_t v = cut.begin(s); v < cut.begin(s + 1); v += cut.rows) {
          slice.tile(tokens + v * C, std::min(cut.rows, V - v), partial, out + v * C);
        }
      }
    });
    partials.merge(false, data<float>(context) + b * N * C, data<float>(kept) + b * N,
                   reference.data(), total.data());
  }
}
#endif  // __x86_64__

std::tuple<Tensor, Tensor, Tensor> bidirectional_attention_bfloat16(
    const Tensor& image, const Tensor& keys, const Tensor& key_bias, const Tensor& values,
    const Tensor& text_mask, int64_t num_heads, bool residual, double limit) {
  check_cross_attention_bfloat16(image, keys, key_bias, values, text_mask, num_heads);
  GLIPKIT_CHECK(has_bfloat16_products(),
                "bidirectional_attention_bfloat16 needs a processor with AVX512_BF16, and "
                "ATEN_CPU_CAPABILITY to allow it; has_bfloat16_products() tells");
  const int64_t B = image.size(0), V = image.size(1), C = image.size(2), N = keys.size(1);
  const bool wide = image.scalar_type() == ScalarType::Float, empty = B * V * C * N == 0;
  const Tensor reads = torch::stable::new_zeros(image, {B, V, C}, image.scalar_type());
  const Tensor context = new_zeros<float>(image, {B, N, C}), kept = new_zeros<float>(image, {B, N});
#if defined(__x86_64__)
  if (!empty) {
    const auto run = wide ? forward<float> : forward<BFloat16>;
    run(torch::stable::contiguous(image), torch::stable::contiguous(keys),
        contiguous_as<float>(key_bias), torch::stable::contiguous(values),
        torch::stable::contiguous(text_mask), num_heads, residual, static_cast<float>(limit), reads,
        context, kept);
  }
#endif
  return {reads, context, kept};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CPU, m) {
  m.impl("bidirectional_attention_bfloat16", TORCH_BOX(&bidirectional_attention_bfloat16));
}

STABLE_TORCH_LIBRARY_IMPL(glipkit, CompositeExplicitAutograd, m) {
  m.impl("has_bfloat16_products", TORCH_BOX(&has_bfloat16_products));
}

}  // namespace glipkit
