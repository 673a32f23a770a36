// The suites send no credential, and this gateway answers nobody without one: each of their requests gets it here.
import http from "node:http";
import { syncBuiltinESMExports } from "node:module";
import { Agent, setGlobalDispatcher } from "undici";

const authorization = `Bearer ${process.env.HEARTHGATE_KEY}`;

function credited(dispatch) {
  return (options, handler) => {
    const given = options.headers ?? [];
    const pairs = Array.isArray(given) ? given : [...(Symbol.iterator in given ? given : Object.entries(given))].flat();
    return dispatch({ ...options, headers: [...pairs, "authorization", authorization] }, handler);
  };
}

setGlobalDispatcher(new Agent().compose(credited));

const plain = http.request;
http.request = (...given) => {
  const request = plain(...given);
  request.setHeader("authorization", authorization);
  return request;
};
syncBuiltinESMExports();
