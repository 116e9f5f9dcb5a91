// Where a sample between pixels reads from: four corners and their weights, on CPU and CUDA alike.

#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define GLIPKIT_HOST_DEVICE __host__ __device__
#else
#define GLIPKIT_HOST_DEVICE
#endif

namespace glipkit {

template <typename T>
struct Bilinear {
  int64_t corner[4];  // pixels: top left, top right, bottom left, bottom right
  T weight[4];
  T down, right;  // how far below the top corners and right of the left ones, in [0, 1]
};

// The sample at (y, x) of an image of H x W pixels. A corner that is not in the image is the pixel
// `outside`, whose value the caller takes as zero. The whole sample is outside unless it lies in
// (-1, H) x (-1, W); a position that is not a number does not.
template <typename T>
GLIPKIT_HOST_DEVICE inline Bilinear<T> bilinear(T y, T x, int64_t H, int64_t W, int64_t outside) {
  Bilinear<T> sample = {{outside, outside, outside, outside}, {0, 0, 0, 0}, 0, 0};
  const bool inside = y > -1 && y < static_cast<T>(H) && x > -1 && x < static_cast<T>(W);
  if (!inside) return sample;
  // A conversion rounds towards zero; between -1 and 0 the corner above is -1.
  const int64_t top = y < 0 ? -1 : static_cast<int64_t>(y);
  const int64_t left = x < 0 ? -1 : static_cast<int64_t>(x);
  const T down = y - static_cast<T>(top), right = x - static_cast<T>(left);
  sample.down = down;
  sample.right = right;
  sample.weight[0] = (1 - down) * (1 - right);
  sample.weight[1] = (1 - down) * right;
  sample.weight[2] = down * (1 - right);
  sample.weight[3] = down * right;
  const bool has_top = top >= 0, has_bottom = top + 1 < H;
  const bool has_left = left >= 0, has_right = left + 1 < W;
  const int64_t first = top * W + left;
  if (has_top && has_left) sample.corner[0] = first;
  if (has_top && has_right) sample.corner[1] = first + 1;
  if (has_bottom && has_left) sample.corner[2] = first + W;
  if (has_bottom && has_right) sample.corner[3] = first + W + 1;
  return sample;
}

}  // namespace glipkit
