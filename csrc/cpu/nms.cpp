// Class-aware non-maximum suppression on the CPU: boxes are sorted once by score, dealt out to
// their groups in that order, and every group is worked off on its own, in parallel, best box
// first.
//
// setup.py compiles this file without fused multiply-adds: an IoU at the threshold has to fall as
// it does in plain float32.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "checks.h"
#include "cpu/radix_sort.h"

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
constexpr int64_t kBlock = 64;          // boxes that are looked at closely together, or passed over
constexpr int64_t kPadding = 16;        // groups begin at multiples of this: no loops over rests

constexpr int64_t padded(int64_t count) { return (count + kPadding - 1) / kPadding * kPadding; }

// Boxes coordinate by coordinate, so that the inner loop vectorises.
template <typename T>
struct Boxes {
  const T *x1, *y1, *x2, *y2, *area;
};

// As wide as the coordinates: compared and stored without conversion.
template <typename T>
using Flag = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

// Marks what box i suppresses among `count` boxes of its group, best first; and perhaps itself or
// boxes before it that are decided already, so that nobody looks at their marks any more.
template <typename T>
[[gnu::always_inline]] inline void suppress_with(const Boxes<T>& boxes, int64_t i, int64_t count,
                                                 T threshold, T extra, Flag<T>* suppressed) {
  const T left = boxes.x1[i], top = boxes.y1[i], right = boxes.x2[i], bottom = boxes.y2[i];
  const T own_area = boxes.area[i];
  for (int64_t first = (i + 1) / kPadding * kPadding; first < count; first += kBlock) {
    const T *x1 = boxes.x1 + first, *y1 = boxes.y1 + first, *x2 = boxes.x2 + first;
    const T *y2 = boxes.y2 + first, *area = boxes.area + first;
    const int64_t length = std::min(kBlock, padded(count - first));
    T inter[kBlock], around[kBlock];
    Flag<T> any = 0;
    for (int64_t j = 0; j < length; ++j) {
      const T width = (right < x2[j] ? right : x2[j]) - (left > x1[j] ? left : x1[j]) + extra;
      const T height = (bottom < y2[j] ? bottom : y2[j]) - (top > y1[j] ? top : y1[j]) + extra;
      inter[j] = (width > 0 ? width : 0) * (height > 0 ? height : 0);
      around[j] = own_area + area[j] - inter[j];
      // A quotient above the threshold implies this, rounding included; a product is cheaper.
      any |= Flag<T>(inter[j] >= threshold * around[j]) & Flag<T>(inter[j] > 0);
    }
    if (!any) continue;
    for (int64_t j = 0; j < length; ++j) suppressed[first + j] |= inter[j] / around[j] > threshold;
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

// Greedy suppression among the boxes of one group, whose indices come best first; sets `kept` at
// the indices of those that stay.
template <typename T>
void keep_best(const T* all_boxes, const Keyed<uint64_t>* members, int64_t count, T threshold,
               T extra, std::vector<T>& scratch, std::vector<Flag<T>>& suppressed, bool* kept) {
  if (count == 1) {
    kept[members[0].index] = true;
    return;
  }
  const int64_t stride = padded(count);
  scratch.resize(5 * stride);
  T *x1 = scratch.data(), *y1 = x1 + stride, *x2 = y1 + stride, *y2 = x2 + stride;
  T* area = y2 + stride;
  for (int64_t i = 0; i < count; ++i) {
    const T* box = all_boxes + 4 * int64_t{members[i].index};
    x1[i] = box[0];
    y1[i] = box[1];
    x2[i] = box[2];
    y2[i] = box[3];
    area[i] = (box[2] - box[0] + extra) * (box[3] - box[1] + extra);
  }
  for (int64_t i = count; i < stride; ++i) {
    x1[i] = y1[i] = area[i] = 0;
    x2[i] = y2[i] = std::numeric_limits<T>::lowest();  // meets no box
  }
  suppressed.assign(stride, 0);
  for (int64_t i = 0; i < count; ++i) {
    kept[members[i].index] = !suppressed[i];
    if (!suppressed[i])
      suppress({x1, y1, x2, y2, area}, i, count, threshold, extra, suppressed.data());
  }
}

// Where each group begins among boxes sorted by group, and the end of the last one.
std::vector<int64_t> group_bounds(const std::vector<Keyed<uint64_t>>& members) {
  std::vector<int64_t> bounds;
  for (size_t i = 0; i < members.size(); ++i) {
    if (i == 0 || members[i].key != members[i - 1].key) bounds.push_back(i);
  }
  bounds.push_back(members.size());
  return bounds;
}

// Works off all groups; `members` are sorted by group, best first within each.
template <typename T>
void suppress_groups(const T* boxes, const std::vector<Keyed<uint64_t>>& members, T threshold,
                     T extra, bool* kept) {
  const std::vector<int64_t> bounds = group_bounds(members);
  const int64_t num_groups = bounds.size() - 1, count = members.size();
  const int64_t grain = (kBoxesPerTask * num_groups + count - 1) / count;
  torch::stable::parallel_for(0, num_groups, grain, [&](int64_t first, int64_t last) {
    std::vector<T> scratch;
    std::vector<Flag<T>> suppressed;
    for (int64_t g = first; g < last; ++g) {
      keep_best(boxes, members.data() + bounds[g], bounds[g + 1] - bounds[g], threshold, extra,
                scratch, suppressed, kept);
    }
  });
}

// A number that is lower for the better score: NaN before every number, as in torch.sort, and both
// zeros alike.
template <typename Key, typename T>
Key rank(T score) {
  if (score != score) return 0;
  score += T{0};  // -0 becomes 0
  Key bits;
  std::memcpy(&bits, &score, sizeof(score));
  constexpr Key kSign = Key{1} << (8 * sizeof(Key) - 1);
  return ~(bits & kSign ? ~bits : bits | kSign);
}

// Indices of the boxes, best score first, the lower index first among equals.
template <typename Key, typename T>
std::vector<uint32_t> best_first(const T* scores, int64_t count) {
  std::vector<Keyed<Key>> items(count);
  for (int64_t i = 0; i < count; ++i) items[i] = {rank<Key>(scores[i]), static_cast<uint32_t>(i)};
  radix_sort(items);
  std::vector<uint32_t> order(count);
  for (int64_t i = 0; i < count; ++i) order[i] = items[i].index;
  return order;
}

std::vector<uint32_t> best_first(const Tensor& scores, int64_t first, int64_t count) {
  return scores.scalar_type() == ScalarType::Double
             ? best_first<uint64_t>(scores.const_data_ptr<double>() + first, count)
             : best_first<uint32_t>(scores.const_data_ptr<float>() + first, count);
}

// Sets `kept`, one flag for each box, for those in `order` that stay.
template <typename T>
void mark_kept(const T* boxes, const int64_t* groups, const std::vector<uint32_t>& order,
               double threshold, bool plus_one, bool* kept) {
  std::vector<Keyed<uint64_t>> members(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    members[i] = {static_cast<uint64_t>(groups[order[i]]), order[i]};  // in any order of groups
  }
  radix_sort(members);
  suppress_groups(boxes, members, static_cast<T>(threshold), static_cast<T>(plus_one), kept);
}

void mark_kept(const Tensor& boxes, int64_t first, const int64_t* groups,
               const std::vector<uint32_t>& order, double threshold, bool plus_one, bool* kept) {
  if (order.empty()) return;
  if (boxes.scalar_type() == ScalarType::Double) {
    mark_kept(boxes.const_data_ptr<double>() + 4 * first, groups, order, threshold, plus_one, kept);
  } else {
    mark_kept(boxes.const_data_ptr<float>() + 4 * first, groups, order, threshold, plus_one, kept);
  }
}

void check_count(int64_t count) {
  GLIPKIT_CHECK(count <= std::numeric_limits<uint32_t>::max(),
                "at most 2^32 - 1 boxes can be compared, got ", count);
}

Tensor nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double iou_threshold,
           bool plus_one) {
  check_nms_arguments(boxes, scores, groups);
  const int64_t count = boxes.size(0);
  check_count(count);
  const Tensor dense_groups = torch::stable::contiguous(groups);
  const std::vector<uint32_t> order = best_first(torch::stable::contiguous(scores), 0, count);
  const std::unique_ptr<bool[]> kept(new bool[count]);
  mark_kept(torch::stable::contiguous(boxes), 0, dense_groups.const_data_ptr<int64_t>(), order,
            iou_threshold, plus_one, kept.get());
  const int64_t num_kept = std::count(kept.get(), kept.get() + count, true);
  Tensor result = torch::stable::new_empty(boxes, {num_kept}, ScalarType::Long);
  int64_t* next = result.mutable_data_ptr<int64_t>();
  for (const uint32_t index : order) {
    if (kept[index]) *next++ = index;
  }
  return result;
}

// Leaves out what only fills a list up: boxes that score minus infinity.
void drop_fillers(std::vector<uint32_t>& order, const Tensor& scores, int64_t first) {
  const bool is_double = scores.scalar_type() == ScalarType::Double;
  const void* values = scores.const_data_ptr();
  const auto is_filler = [&](uint32_t index) {
    return is_double ? static_cast<const double*>(values)[first + index] == -HUGE_VAL
                     : static_cast<const float*>(values)[first + index] == -HUGE_VALF;
  };
  while (!order.empty() && is_filler(order.back())) order.pop_back();
}

Tensor nms_mask(const Tensor& boxes, const Tensor& scores, const Tensor& groups,
                double iou_threshold, bool plus_one) {
  check_nms_mask_arguments(boxes, scores, groups);
  const int64_t num_lists = boxes.size(0), count = boxes.size(1);
  check_count(count);
  const Tensor dense_boxes = torch::stable::contiguous(boxes);
  const Tensor dense_scores = torch::stable::contiguous(scores);
  const Tensor dense_groups = torch::stable::contiguous(groups);
  Tensor result = torch::stable::new_zeros(boxes, {num_lists, count}, ScalarType::Bool);
  for (int64_t list = 0; list < num_lists; ++list) {
    const int64_t first = list * count;
    std::vector<uint32_t> order = best_first(dense_scores, first, count);
    drop_fillers(order, dense_scores, first);
    mark_kept(dense_boxes, first, dense_groups.const_data_ptr<int64_t>() + first, order,
              iou_threshold, plus_one, result.mutable_data_ptr<bool>() + first);
  }
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(glipkit, CPU, m) {
  m.impl("nms", TORCH_BOX(&nms));
  m.impl("nms_mask", TORCH_BOX(&nms_mask));
}

}  // namespace glipkit
