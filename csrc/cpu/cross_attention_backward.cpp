// Attention between image and text in both directions on the CPU: its backward pass.
//
// Scores and weights are computed again, tile by tile as in cross_attention.cpp, from what went
// into the forward pass and from the two sums that it left for each column of the text. With
// A the scores, R and W their softmaxes over the text and over the image:
//
//     dR = dreads values^T         dA  = R (dR - sum over the text of R dR)
//     dW = image dcontext^T        dA += W (dW - dcontext . context)
//     dimage = dA keys + W dcontext      dkeys = dA^T image      dvalues = R^T dreads
//
// A slice of the picture sums the gradients of the text for itself; the slices are added up in
// order, so results are the same whatever the number of threads.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/cross_attention_layout.h"
#include "cross_attention.h"

namespace glipkit {
namespace {

// One picture's text, as the products want it, and what is known of its columns (padded groups).
template <typename T>
struct Text {
  Tensor keys, values, grad_context;           // packed columns
  Tensor key_channels, grad_context_channels;  // packed channels
  std::vector<T> bias, highest, reference, factor, grad_kept, mean;
};

// What went into and came out of the forward pass, and the gradients of that, of one picture.
template <typename T>
struct Picture {
  const T *grad_reads, *grad_context, *grad_kept, *image, *keys, *key_bias, *values;
  const bool* mask;
  const T *context, *kept, *reference, *total;
};

template <typename T>
Text<T> prepare(const Picture<T>& p, const Cut& cut, const Tensor& like) {
  const int64_t N = cut.columns();
  std::vector<T> factor(N), mean(N);
  for (int64_t j = 0; j < N; ++j) {
    factor[j] = 1 / p.total[j];
    double sum = static_cast<double>(p.grad_kept[j]) * p.kept[j];
    for (int64_t c = 0; c < cut.C; ++c) {  // in float64: what it is subtracted from is close to it
      sum += static_cast<double>(p.grad_context[j * cut.C + c]) * p.context[j * cut.C + c];
    }
    mean[j] = static_cast<T>(sum);
  }
  const auto padded = [&](const T* from) {
    std::vector<T> to(cut.padded_columns());
    pad_groups(from, cut, T(0), to.data());
    return to;
  };
  std::vector<T> highest(cut.T + kPanel);
  ceiling(p.mask, cut, highest.data());
  return {pack_columns(like, p.keys, cut),
          pack_columns(like, p.values, cut),
          pack_columns(like, p.grad_context, cut),
          pack_channels(like, p.keys, cut),
          pack_channels(like, p.grad_context, cut),
          padded(p.key_bias),
          highest,
          padded(p.reference),
          padded(factor.data()),
          padded(p.grad_kept),
          padded(mean.data())};
}

// Gradients of the text that a slice of image tokens sums; rows of `channels` numbers.
template <typename T>
struct Partial {
  T *keys, *values, *bias;
};

template <typename T>
struct Slice {
  const Kernels<T>& run;
  const Cut& cut;
  const Text<T>& text;
  const Options<T>& options;
  Scratch<T> tokens, grads, sums, scores, reads, seen, head, image_factors, text_factors;
  Scratch<uint32_t> image_keys, text_keys;

  Slice(const Kernels<T>& run, const Cut& cut, const Text<T>& text, const Options<T>& options)
      : run(run),
        cut(cut),
        text(text),
        options(options),
        tokens(cut.rows * cut.channels),
        grads(cut.rows * cut.channels),
        sums(cut.rows * cut.channels),
        scores(cut.rows * cut.stride),
        reads(cut.rows * cut.stride),
        seen(cut.rows * cut.stride),
        head(cut.T + kPanel),
        image_factors(cut.stride),
        text_factors(cut.stride),
        image_keys(cut.rows),
        text_keys(cut.rows) {
    std::fill_n(image_factors.get(), cut.stride, T(1));
    std::fill_n(text_factors.get(), cut.stride, T(1));
  }

  // Tokens [first, first + rows) of picture b; the pointers are to the first one.
  void tile(const T* image, const T* grad_reads, int64_t b, int64_t first, int64_t rows,
            const Partial<T>& partial, T* grad_image) const {
    pack_channels(image, rows, cut, tokens.get());
    pack_channels(grad_reads, rows, cut, grads.get());
    begin_sums(grad_reads, options.residual, rows, cut, sums.get());
    options.row_keys(0, b * cut.V + first, rows, image_keys.get());
    options.row_keys(1, b * cut.V + first, rows, text_keys.get());
    for (int64_t group = 0; group < cut.groups; ++group) {
      const int64_t start = group * cut.padded;
      const T* none = nullptr;
      multiply_columns(run, image, rows, cut, const_data<T>(text.keys) + start * cut.C,
                       text.bias.data() + start, scores.get());
      multiply_columns(run, grad_reads, rows, cut, const_data<T>(text.values) + start * cut.C, none,
                       reads.get());
      multiply_columns(run, image, rows, cut, const_data<T>(text.grad_context) + start * cut.C,
                       none, seen.get());
      const ColumnSums<T> columns{text.reference.data() + start, text.factor.data() + start,
                                  text.grad_kept.data() + start, text.mean.data() + start};
      const DropoutRows<T> dropout{options.image,          options.text,        image_keys.get(),
                                   text_keys.get(),        image_factors.get(), text_factors.get(),
                                   cut.first_column(group)};
      run.score_gradients(scores.get(), reads.get(), seen.get(), cut.stride, rows, cut.heads(group),
                          cut.T, text.highest.data(), options.limit, columns, dropout,
                          partial.bias + start, head.get());
      multiply_tokens(run, reads.get(), rows, group, cut, tokens.get(), partial.keys);
      multiply_tokens(run, scores.get(), rows, group, cut, grads.get(), partial.values);
      multiply_channels(run, reads.get(), rows, group, cut, const_data<T>(text.key_channels),
                        sums.get());
      multiply_channels(run, seen.get(), rows, group, cut,
                        const_data<T>(text.grad_context_channels), sums.get());
    }
    for (int64_t i = 0; i < rows; ++i) {
      std::copy_n(sums.get() + i * cut.channels, cut.C, grad_image + i * cut.C);
    }
  }
};

// Adds up the slices of a picture, in order.
template <typename T>
void merge(const Cut& cut, const std::vector<Partial<T>>& partials, const Partial<T>& to) {
  torch::stable::parallel_for(0, cut.columns(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t column = begin; column < end; ++column) {
      const int64_t group = column / (cut.group_heads * cut.T);
      const int64_t j = group * cut.padded + column - cut.first_column(group);
      T* keys = to.keys + column * cut.C;
      T* values = to.values + column * cut.C;
      for (const Partial<T>& partial : partials) {
        for (int64_t c = 0; c < cut.C; ++c) {
          keys[c] += partial.keys[column * cut.channels + c];
          values[c] += partial.values[column * cut.channels + c];
        }
        to.bias[column] += partial.bias[j];
      }
    }
  });
}

// One picture; the gradients of the text must be zeros.
template <typename T>
void backward(const Picture<T>& picture, int64_t b, const Cut& cut, const Options<T>& options,
              const Tensor& like, T* grad_image, const Partial<T>& to) {
  const Kernels<T>& run = kernels<T>();
  const Text<T> text = prepare(picture, cut, like);
  const int64_t size = cut.columns() * cut.channels, numbers = 2 * size + cut.padded_columns();
  const Tensor memory = new_tensor<T>(like, {cut.slices * numbers});
  std::vector<Partial<T>> partials;
  for (int64_t s = 0; s < cut.slices; ++s) {
    T* start = data<T>(memory) + s * numbers;
    partials.push_back({start, start + size, start + 2 * size});
  }
  torch::stable::parallel_for(0, cut.slices, 1, [&](int64_t begin, int64_t end) {
    const Slice<T> slice(run, cut, text, options);
    for (int64_t s = begin; s < end; ++s) {
      std::fill_n(partials[s].keys, numbers, T(0));
      for (int64_t v = cut.begin(s); v < cut.begin(s + 1); v += cut.rows) {
        slice.tile(picture.image + v * cut.C, picture.grad_reads + v * cut.C, b, v,
                   std::min(cut.rows, cut.V - v), partials[s], grad_image + v * cut.C);
      }
    }
  });
  merge(cut, partials, to);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> bidirectional_attention_backward(
    const Tensor& grad_reads, const Tensor& grad_context, const Tensor& grad_kept,
    const Tensor& image, const Tensor& keys, const Tensor& key_bias, const Tensor& values,
    const Tensor& text_mask, const Tensor& context, const Tensor& kept, const Tensor& reference,
    const Tensor& total, int64_t num_heads, bool residual, double limit, double image_dropout,
    double text_dropout, const Tensor& seed) {
  check_cross_attention(image, keys, key_bias, values, text_mask, num_heads, seed);
  check_results(grad_reads, "grad_reads", image, image.size(1), image.size(2));
  check_results(grad_context, "grad_context", image, keys.size(1), image.size(2));
  check_results(context, "context", image, keys.size(1), image.size(2));
  check_results(grad_kept, "grad_kept", image, keys.size(1), 1);
  check_results(kept, "kept", image, keys.size(1), 1);
  check_results(reference, "reference", image, keys.size(1), 1);
  check_results(total, "total", image, keys.size(1), 1);
  const int64_t B = image.size(0), V = image.size(1), C = image.size(2), N = keys.size(1);
  const auto run = [&](auto zero) -> std::tuple<Tensor, Tensor, Tensor, Tensor> {
    using T = decltype(zero);
    const Options<T> options{residual, static_cast<T>(limit), dropout_of<T>(image_dropout),
                             dropout_of<T>(text_dropout),
                             static_cast<uint64_t>(*const_data<int64_t>(seed))};
    const bool empty = B * V * C * N == 0;
    const Tensor grad_image =
        empty ? new_zeros<T>(image, {B, V, C}) : new_tensor<T>(image, {B, V, C});
    const Tensor grad_keys = new_zeros<T>(keys, {B, N, C});
    const Tensor grad_bias = new_zeros<T>(keys, {B, N}),
                 grad_values = new_zeros<T>(keys, {B, N, C});
    if (empty) return {grad_image, grad_keys, grad_bias, grad_values};
    const Tensor mask = torch::stable::contiguous(text_mask);
    std::vector<Tensor> inputs;  // in the order of Picture
    for (const Tensor* tensor : {&grad_reads, &grad_context, &grad_kept, &image, &keys, &key_bias,
                                 &values, &context, &kept, &reference, &total}) {
      inputs.push_back(contiguous_as<T>(*tensor));
    }
    const Cut cut = Cut::of<T>(V, C, num_heads, N / num_heads, 3, 5);
    for (int64_t b = 0; b < B; ++b) {
      const auto of = [&](int64_t i) {
        return const_data<T>(inputs[i]) + b * (inputs[i].numel() / B);
      };
      const Picture<T> picture{of(0), of(1), of(2), of(3),
                               of(4), of(5), of(6), const_data<bool>(mask) + b * cut.T,
                               of(7), of(8), of(9), of(10)};
      backward(picture, b, cut, options, image, data<T>(grad_image) + b * V * C,
               {data<T>(grad_keys) + b * N * C, data<T>(grad_values) + b * N * C,
                data<T>(grad_bias) + b * N});
    }
    return {grad_image, grad_keys, grad_bias, grad_values};
  };
  return image.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CPU, m) {
  m.impl("bidirectional_attention_backward", TORCH_BOX(&bidirectional_attention_backward));
}

}  // namespace glipkit
