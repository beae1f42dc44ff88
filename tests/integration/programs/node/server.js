// SPDX-License-Identifier: Apache-2.0
// A server to be observed: server.js KIND OUT PORT LOG UPSTREAM [KEY CERTIFICATE CA]. KIND: http, https, express, http2, http2s.
// OUT, how /call/... asks the upstream: http, https, undici. Writes a line of JSON to LOG for each request once its answer is written.
import express from 'express'
import fs from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import undici from 'undici'

const [kind, out, port, log, upstream, key, cert, ca] = process.argv.slice(2)
const lines = fs.createWriteStream(log, { flags: 'a' })
const trust = ca ? fs.readFileSync(ca) : undefined
const agent = new (out === 'https' ? https : http).Agent({ keepAlive: true, maxSockets: 64, ca: trust })
const pool = out === 'undici' ? new undici.Pool(upstream, { connections: 64, connect: { ca: trust } }) : null

function ask (path, done) {
  if (pool) {
    pool.request({ method: 'GET', path }).then(r => r.body.arrayBuffer().then(b => done(r.statusCode, b.byteLength)))
    return
  }
  (out === 'https' ? https : http).get(upstream + path, { agent }, r => {
    let n = 0
    r.on('data', d => { n += d.length })
    r.on('end', () => done(r.statusCode, n))
  })
}

function serve (request, response) {
  const begun = process.hrtime.bigint()
  const body = []
  const path = request.url.split('?')[0]
  const answer = (status, bytes) => {
    response.writeHead(status, { 'content-length': bytes.length })
    response.end(bytes)
    const seconds = Number(process.hrtime.bigint() - begun) / 1e9
    response.on('finish', () => lines.write(JSON.stringify({
      method: request.method,
      path,
      status,
      asked: Buffer.concat(body).length,
      body: bytes.length,
      seconds
    }) + '\n'))
  }
  request.on('data', d => body.push(d))
  request.on('end', () => {
    const words = path.split('/')
    if (words[1] === 'size') answer(200, Buffer.alloc(Number(words[2]), 'n'))
    else if (words[1] === 'status') answer(Number(words[2]), Buffer.from('status'))
    else if (words[1] === 'echo') answer(200, Buffer.concat(body))
    else if (words[1] === 'call') ask('/wait/' + words.slice(2).join('/'), (status, n) => answer(status, Buffer.alloc(n, 'c')))
    else answer(404, Buffer.from('none'))
  })
}

const tls = key ? { key: fs.readFileSync(key), cert: fs.readFileSync(cert) } : {}
const app = express()
app.use(serve)
const server = {
  http: () => http.createServer(serve),
  https: () => https.createServer(tls, serve),
  express: () => http.createServer(app),
  http2: () => http2.createServer(serve),
  http2s: () => http2.createSecureServer(tls, serve)
}[kind]()
server.listen(Number(port), '127.0.0.1', 512)
