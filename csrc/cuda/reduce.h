// Reductions over any dims of strided tensors: finds the order in which to read, who adds up what, and merges
// the parts in a fixed order. What is reduced and how is a struct R, which a kernel gets by value:
//   Item            what is read at a position; Part what a thread gathers; Total what threads merge
//   Setting         what all elements of an output share; setting(output)
//   load(offset, position, setting) -> Item   offset in elements, position among the reduced elements
//   start() -> Part; add(part, items, n): items is an array of kRun, n of which count
//   total(part) -> Total; static merge(Total, Total) -> Total; store(output, Total)
#pragma once
#include <algorithm>

#include "team.h"

namespace needle {
namespace {

constexpr int kRun = 8;

// Offsets of positions in a few dims, in the input and in the output.
struct Walk {
  int ndim = 0;
  bool wide = false;  // positions beyond 32 bits
  Divisor size[kMaxDims];
  int64_t length[kMaxDims], stride[kMaxDims], out_stride[kMaxDims];

  NEEDLE_DEVICE void locate(int64_t position, int64_t& offset, int64_t& out) const {
    offset = out = 0;
    for (int d = ndim - 1; d > 0; d--) {
      const int64_t rest = wide ? position / length[d] : int64_t(size[d].divide(uint32_t(position)));
      const int64_t index = position - rest * length[d];
      offset += index * stride[d];
      out += index * out_stride[d];
      position = rest;
    }
    if (ndim > 0) {
      offset += position * stride[0];
      out += position * out_stride[0];
    }
  }
  NEEDLE_DEVICE int64_t offset(int64_t position) const {
    int64_t offset, out;
    locate(position, offset, out);
    return offset;
  }
};

struct Reduction {
  Walk keep, gone;
  int64_t outputs, reduced, tiles, parts;
  Team team;
};

template <class R>
struct MergeOf {
  NEEDLE_DEVICE typename R::Total operator()(const typename R::Total& a, const typename R::Total& b) const {
    return R::merge(a, b);
  }
};

template <class R>
__global__ void reduce_lines(R r, Reduction plan, typename R::Total* partial) {
  const int64_t part = blockIdx.x / plan.tiles, tile = blockIdx.x % plan.tiles;
  const int64_t line = tile * plan.team.teams() + plan.team.number();
  const bool valid = line < plan.outputs;
  int64_t base = 0, out = 0;
  if (valid) plan.keep.locate(line, base, out);
  const int64_t share = (plan.reduced + plan.parts - 1) / plan.parts, begin = part * share;
  const int64_t end = !valid ? begin : begin + share < plan.reduced ? begin + share : plan.reduced;
  const int lane = plan.team.lane(), lanes = plan.team.lanes;
  const auto setting = r.setting(out);
  auto mine = r.start();
  each_run<kRun>(begin, end, lane, lanes, [&](int64_t at, int n) {
    typename R::Item item[kRun] = {};
    for (int i = 0; i < kRun; i++) {
      const int64_t position = at + int64_t(i) * lanes;
      if (i < n) item[i] = r.load(base + plan.gone.offset(position), position, setting);
    }
    r.add(mine, item, n);
  });
  const typename R::Total all = combine(plan.team, r.total(mine), MergeOf<R>());
  if (!valid || lane != 0) return;
  if (partial) partial[part * plan.outputs + out] = all;
  else r.store(out, all);
}

template <class R>
__global__ void merge_parts(R r, int64_t outputs, int parts, Team team, const typename R::Total* partial) {
  const int64_t out = team.line();
  const bool valid = out < outputs;
  typename R::Total mine = r.total(r.start());
  for (int part = team.lane(); valid && part < parts; part += team.lanes) {
    mine = R::merge(mine, partial[part * outputs + out]);
  }
  const typename R::Total all = combine(team, mine, MergeOf<R>());
  if (valid && team.lane() == 0) r.store(out, all);
}

struct WalkDim {
  int64_t size, stride, out_stride;
};

// Widest stride outermost, so that neighbours are read together; broadcast dims before all others.
inline bool before(const WalkDim& a, const WalkDim& b) {
  const auto key = [](const WalkDim& d) { return d.stride == 0 ? INT64_MAX : std::abs(d.stride); };
  return key(a) > key(b);
}

// False where there are too many dims.
inline bool make_walk(Walk& walk, WalkDim* dims, int64_t n, int64_t positions) {
  std::stable_sort(dims, dims + n, before);
  int64_t count = 0;
  for (int64_t d = 0; d < n; d++) {
    if (dims[d].size == 1) continue;
    WalkDim* const last = count > 0 ? &dims[count - 1] : nullptr;
    if (last && last->stride == dims[d].stride * dims[d].size &&
        last->out_stride == dims[d].out_stride * dims[d].size) {
      *last = {last->size * dims[d].size, dims[d].stride, dims[d].out_stride};
    } else {
      dims[count++] = dims[d];
    }
  }
  if (count > kMaxDims) return false;
  walk.ndim = int(count);
  walk.wide = positions >= int64_t(1) << 31;
  for (int64_t d = 0; d < count; d++) {
    if (!walk.wide) walk.size[d].set(uint32_t(dims[d].size));
    walk.length[d] = dims[d].size;
    walk.stride[d] = dims[d].stride;
    walk.out_stride[d] = dims[d].out_stride;
  }
  return true;
}

constexpr int kMaxReduceDims = 64;

// desc: [nkeep, nreduce, keep shape..., keep strides..., reduced shape..., reduced strides...]; outputs are
// row-major over the kept dims. `slot`: scratch memory for the results of parts.
template <class R>
int32_t reduce(const R& r, const double* desc, ScratchSlot slot = kScratchReduce) {
  const int64_t nkeep = int64_t(desc[0]), ngone = int64_t(desc[1]);
  if (nkeep > kMaxReduceDims || ngone > kMaxReduceDims) return too_many_dims(std::max(nkeep, ngone));
  const double *shape = desc + 2, *strides = shape + nkeep;
  WalkDim keep[kMaxReduceDims], gone[kMaxReduceDims];
  Reduction plan;
  plan.outputs = plan.reduced = 1;
  for (int64_t d = nkeep - 1; d >= 0; d--) {
    keep[d] = {int64_t(shape[d]), int64_t(strides[d]), plan.outputs};
    plan.outputs *= int64_t(shape[d]);
  }
  shape = strides + nkeep, strides = shape + ngone;
  for (int64_t d = 0; d < ngone; d++) {
    gone[d] = {int64_t(shape[d]), int64_t(strides[d]), 0};
    plan.reduced *= int64_t(shape[d]);
  }
  if (plan.outputs == 0) return kOk;
  if (plan.reduced == 0) {
    for (int64_t d = 0; d < ngone; d++) gone[d].size = 1;
  }
  if (!make_walk(plan.keep, keep, nkeep, plan.outputs) || !make_walk(plan.gone, gone, ngone, plan.reduced)) {
    return too_many_dims(std::max(nkeep, ngone));
  }

  const int64_t column = plan.keep.ndim > 0 ? std::abs(plan.keep.stride[plan.keep.ndim - 1]) : 0;
  const int64_t step = plan.gone.ndim > 0 ? std::abs(plan.gone.stride[plan.gone.ndim - 1]) : 0;
  const bool across = column != 0 && (step == 0 || column < step);
  plan.team = team_for(plan.outputs, plan.reduced, across ? plan.keep.length[plan.keep.ndim - 1] : 1);
  if (across) plan.team.lanes = std::min(plan.team.lanes, power_of_two(plan.reduced, kThreads));
  plan.tiles = blocks_for(plan.team, plan.outputs);
  const int64_t wanted = int64_t(multiprocessors()) * 8;
  plan.parts =
      std::min((wanted + plan.tiles - 1) / plan.tiles, plan.reduced / (int64_t(plan.team.lanes) * kRun * 2));
  if (plan.parts < 1) plan.parts = 1;
  if (plan.tiles * plan.parts > kMaxBlocks) return too_many_blocks();

  typedef typename R::Total Total;
  Total* partial = nullptr;
  if (plan.parts > 1) {
    partial = static_cast<Total*>(scratch(slot, size_t(plan.outputs * plan.parts) * sizeof(Total)));
    if (!partial) return out_of_memory();
  }
  NEEDLE_LAUNCH((reduce_lines<R>), unsigned(plan.tiles * plan.parts), kThreads, 0, stream(), r, plan,
                partial);
  if (plan.parts > 1) {
    const Team team{power_of_two(plan.parts, kThreads), false};
    NEEDLE_LAUNCH((merge_parts<R>), unsigned(blocks_for(team, plan.outputs)), kThreads, 0, stream(), r,
                  plan.outputs, int(plan.parts), team, partial);
  }
  return launched("starting a kernel");
}

struct NoSetting {};

// The type in which elements are added up.
template <typename T>
struct Wide {
  typedef double type;
};
template <>
struct Wide<int64_t> {
  typedef int64_t type;
};

}  // namespace
}  // namespace needle
