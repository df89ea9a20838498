// State that all instances of the service share.

import * as host from 'netwasm:net/shared@0.2.0';

import { bytes, checked, decoder, MILLISECOND, nanoseconds, NetworkError } from './base.js';

const bigint = (number) => (number == null ? undefined : BigInt(number));

export function take(key, { rate, burst, count = 1 }) {
  const { taken, left, wait } = checked(() => host.take(bytes(key), rate, burst, count));
  return { taken, left, wait: Number(wait) / MILLISECOND };
}

export function get(key) {
  const value = host.get(bytes(key));
  if (!value) return null;
  const data = bytes(value.data);
  return { data, version: value.version, text: () => decoder.decode(data) };
}

export function set(key, data, ttl) {
  return checked(() => host.set(bytes(key), bytes(data), nanoseconds(ttl)));
}

export function compareAndSwap(key, version, data, ttl) {
  const wire = [bytes(key), bigint(version), bytes(data), nanoseconds(ttl)];
  return checked(() => host.compareAndSwap(...wire)) ?? null;
}

export function add(key, more = 1, ttl) {
  const by = BigInt(more);
  if (by >= 0n) {
    const sum = checked(() => host.add(bytes(key), by, nanoseconds(ttl)));
    return Number(BigInt.asIntN(64, sum));
  }
  // The engine passes no negative number to the host: that ends the instance.
  for (;;) {
    const value = get(key);
    if (value && value.data.length !== 8) {
      const text = 'the value is not a counter, which has 8 bytes';
      throw new NetworkError({ code: 'invalid-state', during: 'other', text });
    }
    const data = new Uint8Array(8);
    if (value) data.set(value.data);
    const number = new DataView(data.buffer);
    number.setBigInt64(0, number.getBigInt64(0, true) + by, true);
    if (compareAndSwap(key, value?.version, data, ttl) !== null) {
      return Number(number.getBigInt64(0, true));
    }
  }
}

export const touch = (key, ttl) => host.touch(bytes(key), nanoseconds(ttl));

export const remove = (key, version) => host.remove(bytes(key), bigint(version));
