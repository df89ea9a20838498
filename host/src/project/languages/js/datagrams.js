// Datagrams.

import * as datagrams from 'netwasm:net/datagrams@0.2.0';
import { log } from 'netwasm:net/log@0.2.0';

import { Address } from './addresses.js';
import { bytes, checked, Inbox, NetworkError, report, token } from './base.js';

const sockets = new Map();
let receiver;

export class DatagramSocket {
  #id;
  #inbox;

  constructor(id, inbox) {
    this.#id = id;
    this.#inbox = inbox;
  }

  send(data, to) {
    checked(() => datagrams.sendTo(this.#id, bytes(data), Address.wire(to)));
  }

  async *[Symbol.asyncIterator]() {
    if (!this.#inbox) throw new TypeError('the callback `message` gets what is received');
    for (let item; (item = await this.#inbox.take()); ) yield item;
  }

  close() {
    datagrams.close(this.#id);
  }

  get local() {
    const local = datagrams.localAddress(this.#id);
    return local && new Address(local);
  }
}

export function listenDatagram(handler) {
  receiver = handler;
}

function udpEvent(what, call) {
  try {
    call();
  } catch (error) {
    report(`\`${what}\` of datagrams`, error);
  }
}

export const udpHandler = {
  connectionMade(id) {
    const number = token();
    if (!receiver) {
      log('error', 'no handler: call `listenDatagram` of netwasm');
      datagrams.close(id);
      return BigInt(number);
    }
    const inbox = typeof receiver === 'function' ? new Inbox() : undefined;
    const socket = new DatagramSocket(id, inbox);
    sockets.set(number, { socket, inbox });
    if (inbox) {
      const failed = (error) => {
        report('the handler of datagrams', error);
        socket.close();
      };
      Promise.resolve(receiver(socket)).catch(failed);
    } else {
      udpEvent('open', () => receiver.open?.(socket));
    }
    return BigInt(number);
  },
  datagramReceived(number, data, peer) {
    const it = sockets.get(Number(number));
    if (it?.inbox) it.inbox.put([data, new Address(peer)]);
    else if (it) udpEvent('message', () => receiver.message?.(it.socket, data, new Address(peer)));
  },
  errorReceived(number, error, peer) {
    const it = sockets.get(Number(number));
    if (!it || it.inbox) return;
    udpEvent('error', () => receiver.error?.(it.socket, new NetworkError(error), peer && new Address(peer)));
  },
  connectionLost(number, reason) {
    const it = sockets.get(Number(number));
    sockets.delete(Number(number));
    const error = reason && new NetworkError(reason);
    if (it?.inbox) it.inbox.finish(error);
    else if (it) udpEvent('close', () => receiver.close?.(it.socket, error));
  },
};
