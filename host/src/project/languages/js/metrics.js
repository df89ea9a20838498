// Counts of the handler's own.

import { log } from 'netwasm:net/log@0.2.0';
import * as host from 'netwasm:net/metrics@0.2.0';

import { checked } from './base.js';

class Metric {
  #open;
  #id;
  #name;
  #refused = false;

  constructor(name, labels, open) {
    this.#name = name;
    const wire = Object.entries(labels).map(([label, value]) => ({ name: label, value: String(value) }));
    this.#open = () => open(wire);
  }

  // Calls back with the host's number, which belongs to this instance: it is asked
  // for when it is first used, and not while the component is built.
  with(use) {
    if (this.#refused) return;
    try {
      this.#id ??= checked(() => this.#open());
    } catch (error) {
      this.#refused = true;
      log('warn', `the metric ${this.#name} counts nothing: ${error.message}`);
      return;
    }
    use(this.#id);
  }
}

export class Counter {
  #metric;

  constructor(name, { help = '', labels = {} } = {}) {
    this.#metric = new Metric(name, labels, (wire) => host.counter(name, help, wire));
  }

  add(more = 1) {
    this.#metric.with((id) => host.add(id, BigInt(more)));
  }
}

export class Gauge {
  #metric;

  constructor(name, { help = '', labels = {} } = {}) {
    this.#metric = new Metric(name, labels, (wire) => host.gauge(name, help, wire));
  }

  set(value) {
    this.#metric.with((id) => host.set(id, value));
  }

  change(by) {
    this.#metric.with((id) => host.change(id, by));
  }
}

export class Histogram {
  #metric;

  constructor(name, bounds, { help = '', labels = {} } = {}) {
    // The engine's bindings take a list of numbers in this form alone.
    const wire = Float64Array.from(bounds);
    this.#metric = new Metric(name, labels, (named) => host.histogram(name, help, wire, named));
  }

  observe(value) {
    this.#metric.with((id) => host.observe(id, value));
  }
}
