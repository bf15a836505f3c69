// What the clients in JavaScript share, in node and as a script of a page.
"use strict";

const common = {
  within(what, promise) {
    let timer;
    const late = new Promise((_, fail) => {
      timer = setTimeout(() => fail(new Error(what + " does not come")), 30_000);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  },

  expect(found, wanted) {
    if (found !== wanted) {
      throw new Error(`${JSON.stringify(found)} and not ${JSON.stringify(wanted)}`.slice(0, 200));
    }
  },

  // Messages that come, and those that are waited for.
  mailbox() {
    const messages = [], waiting = [];
    return {
      put(message) {
        const next = waiting.shift();
        next ? next(message) : messages.push(message);
      },
      next: () => common.within("a message", new Promise((done) => {
        messages.length ? done(messages.shift()) : waiting.push(done);
      })),
    };
  },
};

if (typeof module !== "undefined") {
  module.exports = common;
}
