# A webapp that joins the balancer by itself. For an application of one's own, keep the lines that say lb and LB_.
#
#     docker build -f docker/webapp.Dockerfile -t webapp .

# The same stage as in docker/Dockerfile, line by line, so that Docker has it already.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN docker/build-static /out/lb

FROM node:20-bookworm-slim
COPY --from=build /out/lb /usr/local/bin/lb
COPY docker/webapp/server.js /app/server.js
# Variables rather than flags, which would win over `docker run -e LB_JOIN=other`.
ENV LB_JOIN=ha LB_PORT=3000
USER node
EXPOSE 3000 7946/udp
STOPSIGNAL SIGTERM
# The agent is PID 1: it starts the application, passes signals on and reaps what nobody else waits for.
ENTRYPOINT ["/usr/local/bin/lb", "agent", "--"]
CMD ["node", "/app/server.js"]
