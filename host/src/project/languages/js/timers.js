// Timers: the host has one for each instance, for the first of all times.

import { now, wakeAt } from 'netwasm:net/timers@0.2.0';

import { MILLISECOND, report, token } from './base.js';

const timers = new Map();
let alarm = Infinity;

const milliseconds = () => Number(now()) / MILLISECOND;

function arm(when) {
  // One that comes too early costs less than one that is moved.
  if (when >= alarm) return;
  alarm = when;
  wakeAt(BigInt(Math.max(Math.ceil(when * MILLISECOND), 0)));
}

export function addTimer(callback, delay, args, every) {
  if (typeof callback !== 'function') throw new TypeError('the callback is not a function');
  const id = token();
  const wait = Math.max(Number(delay) || 0, 0);
  const when = milliseconds() + wait;
  timers.set(id, { callback, args, when, every: every ? Math.max(wait, 1) : 0 });
  arm(when);
  return id;
}

const clear = (id) => void timers.delete(id);

function woken() {
  alarm = Infinity;
  const time = milliseconds();
  const due = [...timers].filter(([, timer]) => timer.when <= time);
  for (const [id, timer] of due.sort(([, a], [, b]) => a.when - b.when)) {
    if (!timers.has(id)) continue;
    if (timer.every) timer.when = time + timer.every;
    else timers.delete(id);
    try {
      timer.callback(...timer.args);
    } catch (error) {
      report('a timer', error);
    }
  }
  let first = Infinity;
  for (const { when } of timers.values()) first = Math.min(first, when);
  if (first < Infinity) arm(first);
}

// The engine's own timers would have to wait, which no handler may.
Object.assign(globalThis, {
  setTimeout: (callback, delay, ...args) => addTimer(callback, delay, args, false),
  setInterval: (callback, delay, ...args) => addTimer(callback, delay, args, true),
  clearTimeout: clear,
  clearInterval: clear,
});

export const sleep = (delay) => new Promise((done) => addTimer(done, delay, [], false));

export const timerHandler = { woken };
