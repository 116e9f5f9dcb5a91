// Class-aware non-maximum suppression on the CPU: boxes are put in order of (group, score), and
// every group is then worked off on its own, in parallel, best box first.
//
// setup.py compiles this file without fused multiply-adds: an IoU at the threshold has to fall as
// it does in plain float32.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "checks.h"

// The same loop for AVX-512, AVX2 and plain x86-64; the loader takes what the machine has.
#if defined(__x86_64__) && defined(__GLIBC__)
#define GLIPKIT_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define GLIPKIT_CLONES
#endif

namespace glipkit {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kBoxesPerTask = 512;  // fewer are not worth waking another core for

struct Candidate {
  int64_t group;
  double score;  // float32 fits into it exactly
  int64_t index;
};

// Best score first, NaN above every number as in torch.sort, the lower index first among equals.
bool ranks_before(const Candidate& a, const Candidate& b) {
  if (a.score > b.score) return true;
  if (a.score < b.score) return false;
  const bool a_nan = a.score != a.score;
  const bool b_nan = b.score != b.score;
  return a_nan == b_nan ? a.index < b.index : a_nan;
}

// The boxes of one group, best first, coordinate by coordinate so that the inner loop vectorises.
template <typename T>
struct Boxes {
  explicit Boxes(int64_t count) : x1(count), y1(count), x2(count), y2(count), area(count) {}
  std::vector<T> x1, y1, x2, y2, area;
};

// As wide as the coordinates: compared and stored without conversion.
template <typename T>
using Flag = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

template <typename T>
[[gnu::always_inline]] inline void suppress_with(const Boxes<T>& boxes, int64_t i, int64_t count,
                                                 T threshold, T extra, Flag<T>* suppressed) {
  const T *x1 = boxes.x1.data(), *y1 = boxes.y1.data(), *x2 = boxes.x2.data();
  const T *y2 = boxes.y2.data(), *area = boxes.area.data();
  const T left = x1[i], top = y1[i], right = x2[i], bottom = y2[i], own_area = area[i];
  for (int64_t j = i + 1; j < count; ++j) {
    const T width = (right < x2[j] ? right : x2[j]) - (left > x1[j] ? left : x1[j]) + extra;
    const T height = (bottom < y2[j] ? bottom : y2[j]) - (top > y1[j] ? top : y1[j]) + extra;
    const T inter = (width > 0 ? width : 0) * (height > 0 ? height : 0);
    const T iou = inter / (own_area + area[j] - inter);
    suppressed[j] |= iou > threshold;
  }
}

// Not one template: compilers clone plain functions only.
GLIPKIT_CLONES void suppress(const Boxes<float>& boxes, int64_t i, int64_t count, float threshold,
                             float extra, int32_t* suppressed) {
  suppress_with(boxes, i, count, threshold, extra, suppressed);
}
GLIPKIT_CLONES void suppress(const Boxes<double>& boxes, int64_t i, int64_t count, double threshold,
                             double extra, int64_t* suppressed) {
  suppress_with(boxes, i, count, threshold, extra, suppressed);
}

// Greedy suppression among `count` candidates of one group; sets `kept` for those that stay.
template <typename T>
void keep_best(const T* all_boxes, const Candidate* candidates, int64_t count, T threshold, T extra,
               uint8_t* kept) {
  Boxes<T> boxes(count);
  for (int64_t i = 0; i < count; ++i) {
    const T* box = all_boxes + 4 * candidates[i].index;
    boxes.x1[i] = box[0];
    boxes.y1[i] = box[1];
    boxes.x2[i] = box[2];
    boxes.y2[i] = box[3];
    boxes.area[i] = (box[2] - box[0] + extra) * (box[3] - box[1] + extra);
  }
  std::vector<Flag<T>> suppressed(count, 0);
  for (int64_t i = 0; i < count; ++i) {
    kept[i] = !suppressed[i];
    if (kept[i]) suppress(boxes, i, count, threshold, extra, suppressed.data());
  }
}

// Where each group begins in the sorted candidates, and the end of the last one.
std::vector<int64_t> group_bounds(const std::vector<Candidate>& candidates) {
  std::vector<int64_t> bounds;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (i == 0 || candidates[i].group != candidates[i - 1].group) bounds.push_back(i);
  }
  bounds.push_back(candidates.size());
  return bounds;
}

template <typename T>
std::vector<Candidate> survivors(const T* boxes, const std::vector<Candidate>& candidates,
                                 double threshold, bool plus_one) {
  const int64_t count = candidates.size();
  const std::vector<int64_t> bounds = group_bounds(candidates);
  const int64_t num_groups = bounds.size() - 1;
  const int64_t grain = (kBoxesPerTask * num_groups + count - 1) / count;
  std::vector<uint8_t> kept(count);
  torch::stable::parallel_for(0, num_groups, grain, [&](int64_t first, int64_t last) {
    for (int64_t g = first; g < last; ++g) {
      keep_best(boxes, candidates.data() + bounds[g], bounds[g + 1] - bounds[g],
                static_cast<T>(threshold), static_cast<T>(plus_one), kept.data() + bounds[g]);
    }
  });
  std::vector<Candidate> result;
  for (int64_t i = 0; i < count; ++i) {
    if (kept[i]) result.push_back(candidates[i]);
  }
  std::sort(result.begin(), result.end(), ranks_before);
  return result;
}

std::vector<Candidate> sorted_candidates(const Tensor& scores, const Tensor& groups) {
  const int64_t count = scores.numel();
  const bool is_double = scores.scalar_type() == ScalarType::Double;
  const void* score = scores.const_data_ptr();
  const int64_t* group = groups.const_data_ptr<int64_t>();
  std::vector<Candidate> candidates(count);
  for (int64_t i = 0; i < count; ++i) {
    const double value =
        is_double ? static_cast<const double*>(score)[i] : static_cast<const float*>(score)[i];
    candidates[i] = {group[i], value, i};
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.group != b.group ? a.group < b.group : ranks_before(a, b);
  });
  return candidates;
}

Tensor nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double iou_threshold,
           bool plus_one) {
  check_nms_arguments(boxes, scores, groups);
  if (boxes.size(0) == 0) return torch::stable::new_empty(boxes, {0}, ScalarType::Long);
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  const std::vector<Candidate> candidates =
      sorted_candidates(torch::stable::contiguous(scores), torch::stable::contiguous(groups));
  const std::vector<Candidate> kept =
      boxes.scalar_type() == ScalarType::Double
          ? survivors(dense_boxes.const_data_ptr<double>(), candidates, iou_threshold, plus_one)
          : survivors(dense_boxes.const_data_ptr<float>(), candidates, iou_threshold, plus_one);
  const int64_t num_kept = kept.size();
  Tensor result = torch::stable::new_empty(boxes, {num_kept}, ScalarType::Long);
  int64_t* indices = result.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < num_kept; ++i) indices[i] = kept[i].index;
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CPU, m) { m.impl("nms", TORCH_BOX(&nms)); }

}  // namespace glipkit
