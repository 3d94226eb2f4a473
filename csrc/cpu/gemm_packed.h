// Packing of a whole second factor for GemmArgs::packed, by one thread.
#pragma once
#include "gemm_split.h"

namespace needle {

// Elements that `k` by `n` values take when packed.
template <typename T>
int64_t packed_size(int64_t k, int64_t n) {
  return k * round_up(n, gemm_table<T>().lanes);
}

// Packs b (k, n) with any strides into `out`; packed_n is n rounded up to the table's lanes.
template <typename T>
void pack_factor(int64_t k, int64_t n, const T* b, int64_t b_rs, int64_t b_cs, T* out) {
  const GemmTable<T>& table = gemm_table<T>();
  const int64_t limit = gemm_block(k, table.kc), padded = round_up(n, table.lanes);
  for (int64_t k0 = 0; k0 < k; k0 += limit) {
    const int64_t kc = std::min(limit, k - k0);
    for (int64_t j = 0; j < n; j += table.nr) {
      table.panel(kc, std::min(table.nr, n - j), b + k0 * b_rs + j * b_cs, b_rs, b_cs,
                  out + k0 * padded + kc * j);
    }
  }
}

}  // namespace needle
