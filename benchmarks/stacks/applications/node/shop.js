// How the applications of this folder are called: over HTTP if PORT is set, else once, by the name of an operation.
const http = require('node:http')

exports.retry = async (violates, operation) => {
  for (let tries = 1; ; tries++) {
    try {
      return await operation()
    } catch (error) {
      if (tries === 10 || !violates(error)) throw error
    }
  }
}

// `operations`: of each name, which is the path after /orders/ or the program's argument, an async function.
exports.run = async (operations, close) => {
  if (!process.env.PORT) {
    await operations[process.argv[2]]()
    return close()
  }
  const server = http.createServer(async (request, response) => {
    const operation = operations[request.url.replace(/^\/orders\/?/, '') || 'transaction']
    if (request.method === 'GET' || !operation) return response.writeHead(operation ? 405 : 404).end()
    try {
      const number = await operation(() => response.writeHead(202).end())
      if (!response.headersSent) response.writeHead(201, { 'Content-Type': 'application/json' }).end(JSON.stringify({ number }))
    } catch (error) {
      if (!response.headersSent) response.writeHead(500).end(String(error))
    }
  })
  server.listen(process.env.PORT, '127.0.0.1')
}
