// The kernels of an operator for each instruction set, and the choice among them.
//
// The library is built for any processor of its family; only these loops are built for better ones
// too. An operator includes this once, in a namespace private to it, after it has defined
//
//     TARGET_KERNELS    the file with its loops, included once for each instruction set, in a
//                       namespace of its own, with VECTOR_BYTES (the width of a register) and
//                       TILE_ROWS (rows whose sums fit into the registers) defined. Nothing in it
//                       may call an inline function from elsewhere: its one copy in the program
//                       could then be the one for AVX-512.
//     Kernels<T>        a struct of pointers to functions, which `kernels<T>()` of that file fills
//
// and finds the best that the processor has in `kernels<T>()`.

namespace baseline {  // SSE2 or NEON: 16 registers of 16 bytes at the least
#define VECTOR_BYTES 16
#define TILE_ROWS 4
#include TARGET_KERNELS
#undef VECTOR_BYTES
#undef TILE_ROWS
#undef MATRIX_PRODUCT
#undef EXPONENTIAL
}  // namespace baseline

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {  // 16 registers of 32 bytes
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#include TARGET_KERNELS
#undef VECTOR_BYTES
#undef TILE_ROWS
#undef MATRIX_PRODUCT
#undef EXPONENTIAL
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif
namespace avx512 {  // 32 registers of 64 bytes
#define VECTOR_BYTES 64
#define TILE_ROWS 14
#include TARGET_KERNELS
#undef VECTOR_BYTES
#undef TILE_ROWS
#undef MATRIX_PRODUCT
#undef EXPONENTIAL
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // __x86_64__

// The best that the processor has; ATEN_CPU_CAPABILITY (default, avx2, avx512) allows less, as it
// does for PyTorch's own kernels.
template <typename T>
Kernels<T> best_kernels() {
#if defined(__x86_64__)
  const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string allowed = variable ? variable : "";
  const bool allow_avx2 = allowed != "default", allow_avx512 = allow_avx2 && allowed != "avx2";
  if (allow_avx512 && __builtin_cpu_supports("avx512f")) return avx512::kernels<T>();
  if (allow_avx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return avx2::kernels<T>();
  }
#endif
  return baseline::kernels<T>();
}

template <typename T>
const Kernels<T>& kernels() {
  static const Kernels<T> best = best_kernels<T>();
  return best;
}
