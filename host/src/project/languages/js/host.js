// The host's own events.

import { MILLISECOND, report } from './base.js';

const farewells = [];

export function onShutdown(callback) {
  farewells.push(callback);
}

export const lifecycle = {
  shuttingDown(deadline) {
    const left = deadline === undefined ? null : Number(deadline) / MILLISECOND;
    for (const callback of farewells) {
      try {
        callback(left);
      } catch (error) {
        report('`onShutdown`', error);
      }
    }
  },
};
