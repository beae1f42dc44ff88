// SPDX-License-Identifier: Apache-2.0
// A node:http server that does next to nothing; /count says how many requests it has had, that one included.
'use strict';
let count = 0;
require('http').createServer((request, response) => {
        count++;
        const body = request.url === '/count' ? `${count}\n` : 'hello\n';
        response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': body.length });
        response.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1');
