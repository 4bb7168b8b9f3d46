// A topic: what one module announces, and others listen for.

/** @template Value */
export class Topic {
  /** @type {((value: Value) => unknown)[]} */
  #listeners = [];

  /** @param {(value: Value) => unknown} listener */
  listen(listener) {
    this.#listeners.push(listener);
  }

  /** @param {Value} value */
  announce(value) {
    for (const listener of this.#listeners) listener(value);
  }
}
