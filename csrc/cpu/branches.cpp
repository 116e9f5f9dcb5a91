// What DyConv does with its convolved branches, on the CPU: their statistics in one pass over each,
// then normalisation, weights, sum, upsampling and activation in one pass over all of them.
//
// Branches are rows of channels. Sums are made over blocks of pixels of a fixed size, so results do
// not depend on how many threads there are.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "checks.h"
#include "cpu/tensors.h"

namespace glipkit {
namespace {

using torch::headeronly::BFloat16;

constexpr int64_t kBlock = 64;     // pixels of a partial sum
constexpr int64_t kChannels = 16;  // a register of any instruction set is full

template <typename E>
using Sum = std::conditional_t<std::is_same_v<E, double>, double, float>;

// A row of pixels of the branches, and what becomes of them; coefficients (8, channels): factors of
// same, finer and coarser, what is added, slope and intercept of one line and of the other.
template <typename E>
struct MixRow {
  int64_t width;
  const E *same, *finer, *top, *low;  // top and low: the coarser rows above and below
  int64_t same_stride, finer_stride, coarse_stride;
  Sum<E> down;  // how far below `top`
  const int64_t *left, *right;
  const Sum<E>* across;  // how far right of `left`
  const Sum<E>* coefficients;
};

template <typename E>
struct Kernels {
  void (*moments)(const E* pixels, int64_t stride, const Sum<E>* weights, int64_t count,
                  int64_t channels, Sum<E>* results);
  void (*mix)(const MixRow<E>& row, int64_t channels, E* to);
};

#define TARGET_KERNELS "cpu/branches_kernels.h"
#include "cpu/targets.h"

// Where the pixels of a line read a shorter one, bilinearly, corners aligned.
template <typename T>
struct Resize {
  std::vector<int64_t> before, after;
  std::vector<T> distance;  // from `before`, in pixels

  Resize(int64_t from, int64_t to) : before(to), after(to), distance(to) {
    const T ratio = to > 1 ? static_cast<T>(from - 1) / static_cast<T>(to - 1) : T(0);
    for (int64_t i = 0; i < to; ++i) {
      const T place = ratio * static_cast<T>(i);
      before[i] = std::min(static_cast<int64_t>(place), from - 1);
      after[i] = std::min(before[i] + 1, from - 1);
      distance[i] = place - static_cast<T>(before[i]);
    }
  }

  // How much each pixel of the shorter line counts in the mean of the longer one.
  std::vector<T> shares(int64_t from) const {
    std::vector<double> sums(from, 0.0);
    for (size_t i = 0; i < before.size(); ++i) {
      sums[before[i]] += 1 - static_cast<double>(distance[i]);
      sums[after[i]] += static_cast<double>(distance[i]);
    }
    std::vector<T> result(from);
    for (int64_t i = 0; i < from; ++i) {
      result[i] = static_cast<T>(sums[i] / static_cast<double>(before.size()));
    }
    return result;
  }
};

// A branch, (B, C, H, W), read as rows of channels.
template <typename E>
struct Branch {
  Tensor memory;
  int64_t B, C, H, W, stride, image_stride;
  const E* data;

  explicit Branch(const Tensor& branch)
      : memory(branch),
        B(branch.size(0)),
        C(branch.size(1)),
        H(branch.size(2)),
        W(branch.size(3)),
        stride(W > 1 ? branch.stride(3) : branch.stride(2)),
        image_stride(branch.stride(0)),
        data(static_cast<const E*>(branch.const_data_ptr())) {}

  const E* row(int64_t b, int64_t y) const { return data + b * image_stride + y * W * stride; }
};

void check_branch(const Tensor& branch, const char* name) {
  GLIPKIT_CHECK(branch.dim() == 4 && branch.numel() > 0, name,
                " must have 4 dimensions and not be empty, got shape ", shape(branch));
  GLIPKIT_CHECK(branch.size(1) % kChannels == 0, name, " must have a multiple of ", kChannels,
                " channels, got ", branch.size(1));
  const int64_t H = branch.size(2), W = branch.size(3);
  const bool rows =
      branch.stride(1) == 1 && (H < 2 || W < 2 || branch.stride(2) == W * branch.stride(3));
  GLIPKIT_CHECK(rows, name, " must lie in memory as rows of channels (channels last)");
}

template <typename E>
Tensor moments(const Tensor& tensor, int64_t height, int64_t width) {
  using T = Sum<E>;
  const Branch<E> branch(tensor);
  const int64_t C = branch.C, P = branch.H * branch.W, blocks = ceil_div(P, kBlock);
  const bool resized = height != branch.H || width != branch.W;
  std::vector<T> weights;
  if (resized) {
    const std::vector<T> down = Resize<T>(branch.H, height).shares(branch.H);
    const std::vector<T> across = Resize<T>(branch.W, width).shares(branch.W);
    for (const T y : down) {
      for (const T x : across) weights.push_back(y * x);
    }
  }
  const Tensor parts = new_tensor<T>(tensor, {branch.B, blocks, 3, C});
  const Tensor result = new_tensor<T>(tensor, {branch.B, 3, C});
  T* part = static_cast<T*>(parts.mutable_data_ptr());
  T* results = static_cast<T*>(result.mutable_data_ptr());

  torch::stable::parallel_for(0, branch.B * blocks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / blocks, first = item % blocks * kBlock;
      kernels<E>().moments(branch.data + b * branch.image_stride + first * branch.stride,
                           branch.stride, resized ? weights.data() + first : nullptr,
                           std::min(kBlock, P - first), C, part + item * 3 * C);
    }
  });
  for (int64_t b = 0; b < branch.B; ++b) {
    std::vector<double> mean(C, 0.0), squares(C, 0.0), weighted(C, 0.0);
    for (int64_t block = 0; block < blocks; ++block) {
      const double before = static_cast<double>(block * kBlock);
      const double count = static_cast<double>(std::min(kBlock, P - block * kBlock));
      const double share = count / (before + count);
      const T* values = part + (b * blocks + block) * 3 * C;
      for (int64_t c = 0; c < C; ++c) {  // Chan et al.'s update of means and squares
        const double distance = static_cast<double>(values[c]) - mean[c];
        mean[c] += distance * share;
        squares[c] += static_cast<double>(values[C + c]) + distance * distance * before * share;
        weighted[c] += static_cast<double>(values[2 * C + c]);
      }
    }
    for (int64_t c = 0; c < C; ++c) {
      T* to = results + b * 3 * C + c;
      to[0] = static_cast<T>(mean[c]);
      to[C] = static_cast<T>(squares[c] / static_cast<double>(P));
      to[2 * C] = static_cast<T>(resized ? weighted[c] : mean[c]);
    }
  }
  return result;
}

template <typename E>
Tensor mix(const Tensor& same, const std::optional<Tensor>& finer,
           const std::optional<Tensor>& coarser, const Tensor& coefficients) {
  using T = Sum<E>;
  const Branch<E> here(same), from_finer(finer ? *finer : same);
  const Branch<E> from_coarser(coarser ? *coarser : same);
  const Resize<T> down(from_coarser.H, here.H), across(from_coarser.W, here.W);
  Tensor memory = new_tensor<E>(same, {here.B, here.H, here.W, here.C});
  E* to = static_cast<E*>(memory.mutable_data_ptr());
  const T* values = static_cast<const T*>(coefficients.const_data_ptr());

  torch::stable::parallel_for(0, here.B * here.H, 2, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / here.H, y = item % here.H;
      MixRow<E> row{};
      row.width = here.W;
      row.same = here.row(b, y), row.same_stride = here.stride;
      if (finer) row.finer = from_finer.row(b, y), row.finer_stride = from_finer.stride;
      if (coarser) {
        row.top = from_coarser.row(b, down.before[y]);
        row.low = from_coarser.row(b, down.after[y]);
        row.coarse_stride = from_coarser.stride;
        row.down = down.distance[y];
        row.left = across.before.data(), row.right = across.after.data();
        row.across = across.distance.data();
      }
      row.coefficients = values + b * 8 * here.C;
      kernels<E>().mix(row, here.C, to + item * here.W * here.C);
    }
  });
  Tensor view = torch::stable::transpose(memory, 2, 3);
  return torch::stable::transpose(view, 1, 2);
}

template <typename Run>
Tensor with_type(const Tensor& tensor, const Run& run) {
  const ScalarType type = tensor.scalar_type();
  if (type == ScalarType::Double) return run(double{});
  if (type == ScalarType::BFloat16) return run(BFloat16{});
  GLIPKIT_CHECK(type == ScalarType::Float, "branches must be float32, float64 or bfloat16");
  return run(float{});
}

Tensor branch_moments(const Tensor& branch, const std::vector<int64_t>& size) {
  check_branch(branch, "branch");
  GLIPKIT_CHECK(size.size() == 2 && size[0] > 0 && size[1] > 0,
                "size must be two positive numbers");
  return with_type(branch,
                   [&](auto zero) { return moments<decltype(zero)>(branch, size[0], size[1]); });
}

Tensor mix_branches(const Tensor& same, const std::optional<Tensor>& finer,
                    const std::optional<Tensor>& coarser, const Tensor& coefficients) {
  check_branch(same, "same");
  const auto check_other = [&](const std::optional<Tensor>& other, const char* name) {
    if (!other) return;
    check_branch(*other, name);
    GLIPKIT_CHECK(other->size(0) == same.size(0) && other->size(1) == same.size(1) &&
                      other->scalar_type() == same.scalar_type(),
                  name, " must have the images, channels and type of same, got ", shape(*other),
                  " beside ", shape(same));
  };
  check_other(finer, "finer");
  check_other(coarser, "coarser");
  GLIPKIT_CHECK(!finer || (finer->size(2) == same.size(2) && finer->size(3) == same.size(3)),
                "finer must have the size of same");
  GLIPKIT_CHECK(coefficients.dim() == 3 && coefficients.size(0) == same.size(0) &&
                    coefficients.size(1) == 8 && coefficients.size(2) == same.size(1),
                "coefficients must have shape [", same.size(0), ", 8, ", same.size(1), "], got ",
                shape(coefficients));
  return with_type(same, [&](auto zero) {
    using E = decltype(zero);
    return mix<E>(same, finer, coarser, contiguous_as<Sum<E>>(coefficients));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CPU, m) {
  m.impl("branch_moments", TORCH_BOX(&branch_moments));
  m.impl("mix_branches", TORCH_BOX(&mix_branches));
}

}  // namespace glipkit
