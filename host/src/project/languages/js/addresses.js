// Addresses: the host's records, and text.

export function ipText({ tag, val }) {
  if (tag === 'ipv4') return val.join('.');
  // The longest run of zeros is left out (RFC 5952).
  const words = val.map((word) => word.toString(16));
  const runs = words.join(':').match(/(?<![^:])0(:0)+(?![^:])/g) ?? [];
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), '');
  if (!longest) return words.join(':');
  return `:${words.join(':')}:`.replace(`:${longest}:`, '::').replace(/^:(?!:)|(?<!:):$/g, '');
}

export function ipWire(text) {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (four) {
    const val = four.slice(1).map(Number);
    if (val.every((part) => part < 256)) return { tag: 'ipv4', val };
  } else if (text.includes(':')) {
    const [head, tail, more] = text.split('::').map((part) => (part ? part.split(':') : []));
    const zeros = tail ? 8 - head.length - tail.length : 0;
    const val = [...head, ...Array(Math.max(zeros, 0)).fill('0'), ...(tail ?? [])];
    if (!more && val.length === 8 && val.every((word) => /^[0-9a-f]{1,4}$/i.test(word))) {
      return { tag: 'ipv6', val: val.map((word) => parseInt(word, 16)) };
    }
  }
  throw new TypeError(`${text} is not an address`);
}

export class Address {
  #wire;

  constructor(wire) {
    this.#wire = wire;
  }

  get hostname() {
    return ipText({ tag: this.#wire.tag, val: this.#wire.val.address });
  }

  get port() {
    return this.#wire.val.port;
  }

  toString() {
    return this.#wire.tag === 'ipv4' ? `${this.hostname}:${this.port}` : `[${this.hostname}]:${this.port}`;
  }

  toJSON() {
    return { hostname: this.hostname, port: this.port };
  }

  static wire(address) {
    if (address instanceof Address) return address.#wire;
    const { tag, val } = ipWire(address.hostname);
    const { port } = address;
    return { tag, val: tag === 'ipv4' ? { port, address: val } : { port, flowInfo: 0, address: val, scopeId: 0 } };
  }
}

const end = ({ tag, val }) => (tag === 'ip' ? new Address(val) : { path: val });

export const information = ({ peer, local, tls }) => ({ peer: end(peer), local: end(local), tls });
