// The two switches of recording: grad mode and anomaly mode, each a callback or a `using` scope.

let enabled = true;
let anomaly = false;

/** Whether operations are being recorded. */
export function gradEnabled(): boolean {
  return enabled;
}

/** Sets grad mode; returns the previous state. */
export function setGradEnabled(on: boolean): boolean {
  const before = enabled;
  enabled = on;
  return before;
}

/** Whether anomaly mode is on. */
export function anomalyEnabled(): boolean {
  return anomaly;
}

/** Runs `fn` under a switched state, or returns a disposable that switches back. */
function switched<T>(
  name: string,
  set: (on: boolean) => boolean,
  on: boolean,
  fn?: () => T,
): T | Disposable {
  const before = set(on);
  if (fn === undefined) {
    return {
      [Symbol.dispose](): void {
        set(before);
      },
    };
  }
  try {
    const result = fn();
    if (result instanceof Promise) {
      throw new TypeError(
        `Cannot run an async callback in ${name}: the mode would end before it does; ` +
          `write \`using _ = ${name}()\` in the async function instead`,
      );
    }
    return result;
  } finally {
    set(before);
  }
}

/**
 * Switches recording off: in the callback, or until the end of the block with `using`.
 *
 * @throws TypeError where the callback returns a promise
 */
export function noGrad(): Disposable;
/** Runs `fn` without recording and returns its result. */
export function noGrad<T>(fn: () => T): T;
/** Both forms. */
export function noGrad<T>(fn?: () => T): T | Disposable {
  return switched("noGrad", setGradEnabled, false, fn);
}

/** Switches recording on again inside `noGrad`, as a `using` scope. */
export function enableGrad(): Disposable;
/** Runs `fn` with recording on and returns its result. */
export function enableGrad<T>(fn: () => T): T;
/** Both forms. */
export function enableGrad<T>(fn?: () => T): T | Disposable {
  return switched("enableGrad", setGradEnabled, true, fn);
}

/** Watches for NaN: backward throws at the op whose gradient turned NaN and says where it was recorded. */
export function detectAnomaly(): Disposable;
/** Runs `fn` in anomaly mode and returns its result. */
export function detectAnomaly<T>(fn: () => T): T;
/** Both forms. */
export function detectAnomaly<T>(fn?: () => T): T | Disposable {
  return switched(
    "detectAnomaly",
    (on) => {
      const before = anomaly;
      anomaly = on;
      return before;
    },
    true,
    fn,
  );
}
