// A service: POST /orders and POST /orders/fixed.
const http = require('node:http')
const { createOrder, createOrderFixed } = require('./orders')

const routes = { 'POST /orders': createOrder, 'POST /orders/fixed': createOrderFixed }

const server = http.createServer(async (request, response) => {
  const route = routes[`${request.method} ${request.url}`]
  if (!route) return response.writeHead(404).end()
  try {
    const body = JSON.stringify(await route())
    response.writeHead(201, { 'Content-Type': 'application/json' }).end(body)
  } catch (error) {
    response.writeHead(500).end(String(error))
  }
})
server.listen(process.env.PORT, '127.0.0.1')
