// Names.

import { resolve as beginResolve } from 'netwasm:net/resolver@0.2.0';

import { ipText } from './addresses.js';
import { checked, NetworkError, token } from './base.js';

const lookups = new Map();

export function lookup(name) {
  const number = token();
  return new Promise((resolve, reject) => {
    checked(() => beginResolve(BigInt(number), name));
    lookups.set(number, { resolve, reject });
  });
}

export const resolveHandler = {
  resolved(number, { tag, val }) {
    const pending = lookups.get(Number(number));
    lookups.delete(Number(number));
    if (tag === 'err') pending?.reject(new NetworkError(val));
    else pending?.resolve(val.map(ipText));
  },
};
