// Sorting by a number whose order is that of its bits: no comparisons, and stable.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace glipkit {

template <typename Key>
struct Keyed {
  Key key;  // unsigned
  uint32_t index;
};

// Lowest key first, the earlier one first among equals. Works through the keys eleven bits at a
// time, and passes over those in which they all agree.
template <typename Key>
void radix_sort(std::vector<Keyed<Key>>& items) {
  constexpr int kBits = 11;
  constexpr size_t kDigits = size_t{1} << kBits;
  Key varying = 0;
  for (const Keyed<Key>& item : items) varying |= item.key ^ items[0].key;
  std::vector<Keyed<Key>> sorted(varying ? items.size() : 0);
  for (size_t shift = 0; shift < 8 * sizeof(Key); shift += kBits) {
    if (!(varying >> shift & (kDigits - 1))) continue;
    std::array<uint32_t, kDigits> starts{};
    for (const Keyed<Key>& item : items) ++starts[item.key >> shift & (kDigits - 1)];
    uint32_t start = 0;
    for (uint32_t& count : starts) {
      const uint32_t next = start + count;
      count = start;
      start = next;
    }
    for (const Keyed<Key>& item : items) {
      sorted[starts[item.key >> shift & (kDigits - 1)]++] = item;
    }
    items.swap(sorted);
  }
}

}  // namespace glipkit
