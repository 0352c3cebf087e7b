// A small web application, to see a balancer work: it tells which node answered and counts the views of each session.
//
// Sessions live in this process alone. A request that reaches another node starts a new one there, which shows at once
// whether the balancer keeps a user on a server.
//
//     GET /                         {"hello", "ip", "host", "sessionViews", "id"}
//     POST /delay {"delay": 250}    every answer takes 250 ms from now on; 0 ends it

"use strict";

const { randomBytes } = require("node:crypto");
const http = require("node:http");
const os = require("node:os");

const PORT = Number(process.env.PORT || 3000);
const COOKIE = "NODESESSID";
/** Above this, the session that was used least recently is forgotten: clients without cookies must not fill the memory. */
const MAX_SESSIONS = 10_000;
const MAX_BODY_BYTES = 1024;
const MAX_DELAY_MS = 3_600_000;

const host = os.hostname();
const ip = ownAddress();
/** Views by session id, the least recently used first. */
const sessions = new Map();
let delay = 0;

const server = http.createServer((request, response) => {
  const path = request.url.split("?", 1)[0];
  if (request.method === "POST" && path === "/delay") {
    return changeDelay(request, response);
  }
  setTimeout(() => {
    if (path !== "/") {
      answer(response, 404, { error: "there is nothing here" });
    } else if (request.method === "HEAD") {
      // Health checks: no session for them.
      answer(response, 200, {});
    } else if (request.method === "GET") {
      showView(request, response);
    } else {
      answer(response, 405, { error: "GET and HEAD are answered here" }, { allow: "GET, HEAD" });
    }
  }, delay);
});

server.listen(PORT, () => console.log(`webapp on ${host} (${ip}) listens on port ${PORT}`));

for (const signal of ["SIGTERM", "SIGINT"]) {
  // What is in flight is answered first.
  process.once(signal, () => server.close(() => process.exit(0)));
}

function showView(request, response) {
  const known = sessionOf(request);
  const id = known ?? randomBytes(18).toString("base64url");
  const sessionViews = (sessions.get(id) ?? 0) + 1;
  // Set anew, which moves it to the end of the map's order.
  sessions.delete(id);
  sessions.set(id, sessionViews);
  if (sessions.size > MAX_SESSIONS) {
    sessions.delete(sessions.keys().next().value);
  }
  const cookie = known === undefined ? { "set-cookie": `${COOKIE}=${id}; Path=/; HttpOnly` } : {};
  answer(response, 200, { hello: "world!", ip, host, sessionViews, id }, cookie);
}

function sessionOf(request) {
  const pairs = (request.headers.cookie ?? "").split(";").map((pair) => pair.trim());
  const id = pairs.find((pair) => pair.startsWith(`${COOKIE}=`))?.slice(COOKIE.length + 1);
  return id !== undefined && sessions.has(id) ? id : undefined;
}

function changeDelay(request, response) {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (chunk) => {
    // The rest of a body that is too long is read and dropped; what was kept is no JSON then.
    if (body.length < MAX_BODY_BYTES) {
      body += chunk;
    }
  });
  request.on("end", () => {
    const wanted = parsedDelay(body);
    if (wanted === undefined) {
      const expected = `{"delay": N} is expected, N in milliseconds from 0 to ${MAX_DELAY_MS}`;
      return answer(response, 400, { error: expected });
    }
    delay = wanted;
    console.log(`every answer takes ${delay} ms from now on`);
    answer(response, 200, { delay });
  });
}

function parsedDelay(body) {
  try {
    const { delay: wanted } = JSON.parse(body);
    return Number.isInteger(wanted) && wanted >= 0 && wanted <= MAX_DELAY_MS ? wanted : undefined;
  } catch {
    return undefined;
  }
}

function answer(response, status, value, headers = {}) {
  const body = JSON.stringify(value);
  response.writeHead(status, {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    "x-backend-ip": ip,
    ...headers,
  });
  response.end(body);
}

function ownAddress() {
  const addresses = Object.values(os.networkInterfaces()).flat();
  const own = addresses.find((address) => address.family === "IPv4" && !address.internal);
  return own?.address ?? "127.0.0.1";
}
