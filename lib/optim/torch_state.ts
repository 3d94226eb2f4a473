// State dicts of PyTorch's optimisers and schedules, as loadTorch gives them, under the names that are used here.

import { Tensor } from "../tensor/mod.ts";
import { isPlainObject } from "./rules.ts";

/** Options of PyTorch's groups that say how it computes, not what; and those of OneCycleLR, which are settings here. */
const dropped = new Set([
  "foreach",
  "fused",
  "capturable",
  "differentiable",
  "decoupled_weight_decay",
  "max_lr",
  "min_lr",
  "max_momentum",
  "base_momentum",
]);

/** Names that are not the same in camelCase. */
const renamed: Record<string, string> = {
  T_max: "tMax",
  T_0: "t0",
  T_mult: "tMult",
  T_i: "period",
  T_cur: "since",
};

function camel(name: string): string {
  return renamed[name] ?? name.replace(/^_/, "").replace(/_([a-z0-9])/g, (_, c) => c.toUpperCase());
}

/** A number that PyTorch may keep in a 0-d tensor. */
function plain(value: unknown): unknown {
  return value instanceof Tensor && value.ndim === 0 ? value.item() : value;
}

/** The state dict of an optimiser of PyTorch in this library's form; any other value as it is. */
export function optimizerState(dict: unknown): unknown {
  if (
    !isPlainObject(dict) || !Array.isArray(dict["param_groups"]) || !isPlainObject(dict["state"])
  ) {
    return dict;
  }
  const group = (options: unknown): unknown =>
    isPlainObject(options)
      ? Object.fromEntries(
        Object.entries(options)
          .filter(([name]) => !dropped.has(name))
          .map(([name, value]) => [camel(name), plain(value)]),
      )
      : options;
  const own = (fields: unknown): unknown =>
    isPlainObject(fields)
      ? Object.fromEntries(
        Object.entries(fields)
          .filter(([, value]) => value !== null)
          .map(([name, value]) => [camel(name), name === "step" ? plain(value) : value]),
      )
      : fields;
  const state = Object.entries(dict["state"]).map(([i, fields]) => [i, own(fields)]);
  return { state: Object.fromEntries(state), paramGroups: dict["param_groups"].map(group) };
}

/**
 * The state dict of a schedule of PyTorch in this library's form, completed by the present settings `own` (PyTorch keeps
 * some of them in the optimiser); any other value as it is.
 */
export function schedulerState(dict: unknown, own: Record<string, unknown>): unknown {
  if (!isPlainObject(dict) || !Object.hasOwn(dict, "last_epoch")) return dict;
  const state: Record<string, unknown> = { ...own };
  for (const [name, value] of Object.entries(dict)) {
    const key = camel(name);
    if (Object.hasOwn(own, key)) state[key] = value;
  }
  // MultiStepLR counts how often each milestone was given.
  const { milestones } = state;
  if (isPlainObject(milestones)) {
    state["milestones"] = Object.entries(milestones)
      .flatMap(([at, count]) => new Array<number>(Number(count)).fill(Number(at)))
      .sort((a, b) => a - b);
  }
  return state;
}
