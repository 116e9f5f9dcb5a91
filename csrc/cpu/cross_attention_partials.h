// What slices of a picture know of the columns of the text, and how they become one.
//
// For the forward passes of cross-attention: everything here is private to them.

#pragma once

#include <cmath>

#include "cpu/cross_attention_layout.h"

namespace glipkit {
namespace {

// The reference of a column is raised when a score exceeds it by more: until then a weight is at
// most e^8, and nothing needs to be scaled anew.
constexpr double kMargin = 8;

// What a slice of image tokens knows of the columns; `context` is (H * T, channels).
template <typename T>
struct Partial {
  T *reference, *total, *kept, *context;
};

// References that the largest scores of a tile, of one group of columns, have left behind follow
// them.
template <typename T>
void raise(const Cut& cut, int64_t group, const T* largest, const Partial<T>& partial) {
  const int64_t start = group * cut.padded;
  for (int64_t j = 0; j < cut.heads(group) * cut.T; ++j) {
    T& reference = partial.reference[start + j];
    const T larger = largest[j];
    if (!(larger > reference + static_cast<T>(kMargin))) continue;
    const T faded = std::exp(reference - larger);
    T* row = partial.context + (cut.first_column(group) + j) * cut.channels;
    for (int64_t c = 0; c < cut.channels; ++c) row[c] *= faded;
    partial.total[start + j] *= faded;
    partial.kept[start + j] *= faded;
    reference = larger;
  }
}

// Memory for what the slices of one picture know.
template <typename T>
class Partials {
 public:
  Partials(const Cut& cut, const Tensor& like)
      : cut_(cut),
        numbers_(3 * cut.padded_columns() + cut.columns() * cut.channels),
        memory_(new_tensor<T>(like, {cut.slices * numbers_})) {}

  // A slice that knows nothing yet.
  Partial<T> begin(int64_t slice) const {
    const Partial<T> partial = at(slice);
    std::fill_n(partial.reference, cut_.padded_columns(), -std::numeric_limits<T>::infinity());
    std::fill_n(partial.total, numbers_ - cut_.padded_columns(), T(0));
    return partial;
  }

  // All slices, one after the other, into the rows of the outputs that are the picture's.
  void merge(bool dropped, T* context, T* kept, T* reference, T* total) const {
    const Cut& cut = cut_;
    torch::stable::parallel_for(0, cut.columns(), 16, [&](int64_t begin, int64_t end) {
      for (int64_t column = begin; column < end; ++column) {
        const int64_t group = column / (cut.group_heads * cut.T);
        const int64_t j = group * cut.padded + column - cut.first_column(group);
        T most = at(0).reference[j], sum = 0, kept_sum = 0;
        for (int64_t s = 1; s < cut.slices; ++s) most = std::max(most, at(s).reference[j]);
        T* row = context + column * cut.C;
        std::fill_n(row, cut.C, T(0));
        for (int64_t s = 0; s < cut.slices; ++s) {
          const Partial<T> partial = at(s);
          const T faded = std::exp(partial.reference[j] - most);
          const T* from = partial.context + column * cut.channels;
          for (int64_t c = 0; c < cut.C; ++c) row[c] += faded * from[c];
          sum += faded * partial.total[j];
          kept_sum += faded * partial.kept[j];
        }
        for (int64_t c = 0; c < cut.C; ++c) row[c] /= sum;
        kept[column] = dropped ? kept_sum / sum : 1;
        reference[column] = most;
        total[column] = sum;
      }
    });
  }

 private:
  Partial<T> at(int64_t slice) const {
    const int64_t columns = cut_.padded_columns();
    T* start = data<T>(memory_) + slice * numbers_;
    return {start, start + columns, start + 2 * columns, start + 3 * columns};
  }

  const Cut& cut_;
  const int64_t numbers_;
  const Tensor memory_;
};

}  // namespace
}  // namespace glipkit
